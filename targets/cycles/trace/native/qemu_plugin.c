/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A plugin of QEMU's translator that notes the blocks a microcontroller executes, each with its
 * bytes, and after each the one that ran next, apart for every layer of a network.
 *
 * A run is cut into sections. Section 0 is what calls the layers; section i + 1 is layer i, from
 * the first instruction of its function until a block of a caller begins. Layers are entered in
 * order, again and again: the order tells two layers apart that the linker gave one address.
 *
 * Arguments, as QEMU hands them on:
 *   trace=PATH           where the trace goes when the machine stops
 *   layer=ADDRESS        one per layer, in order
 *   caller=BEGIN-END     half-open; one per function that calls layers
 *
 * The trace, 32-bit words in this machine's order:
 *   "EKT1", blocks, edges, layers entered, layers entered out of order
 *   blocks: address, bytes, then the bytes, padded to a word with zeros
 *   edges:  section, number of the block, address of the next block, times (low word, high word)
 *
 * Compile with EK_PLUGIN_API set to a version that the QEMU at hand accepts. Debian ships no header
 * of the interface: what is used of it is declared here, from QEMU's documentation ("QEMU TCG
 * Plugins", API).
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;

typedef void (*translated_callback)(uint64_t plugin, struct qemu_plugin_tb *tb);
typedef void (*executed_callback)(unsigned cpu, void *data);
typedef void (*end_callback)(uint64_t plugin, void *data);

enum callback_flags { NO_REGISTERS };

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, translated_callback callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
                                                 executed_callback callback,
                                                 enum callback_flags flags, void *data);
extern void qemu_plugin_register_atexit_cb(uint64_t plugin, end_callback callback, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb,
                                                        size_t index);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);

/* Since version 3 bytes are copied into a buffer; also for plugins made for an older version. */
extern void qemu_plugin_insn_data(void);
typedef const void *(*get_bytes)(const struct qemu_plugin_insn *instruction);
typedef size_t (*copy_bytes)(const struct qemu_plugin_insn *instruction, void *to, size_t bytes);
#define FIRST_THAT_COPIES 3

/* The beginning of what QEMU says about itself. */
typedef struct {
    const char *target;
    int oldest_api;
    int newest_api;
} about;

EXPORTED int qemu_plugin_version = EK_PLUGIN_API;
EXPORTED int qemu_plugin_install(uint64_t plugin, const about *qemu, int count, char **arguments);

/* A translation block of QEMU ends at a page, at the latest: at most so many bytes. */
#define LONGEST_BLOCK 8192
/* As QEMU counts; see thumb_bytes. */
#define LONGEST_INSTRUCTION 8
#define BUCKETS 4096

typedef struct edge {
    struct edge *next;
    uint32_t section;
    uint32_t following;
    uint64_t times;
} edge;

typedef struct block {
    struct block *next;
    uint32_t address;
    uint32_t bytes;
    uint32_t number;
    edge *edges;
    uint8_t code[];
} block;

typedef struct {
    uint32_t begin;
    uint32_t end;
} range;

/* One of the two is set. */
static get_bytes get;
static copy_bytes copy;

static const char *trace_file;
static uint32_t *layers;
static uint32_t layer_count;
static range *callers;
static uint32_t caller_count;

static block *buckets[BUCKETS];
static uint32_t block_count;
static uint32_t edge_count;

static block *running;
static uint32_t section;
static uint32_t next_layer;
static uint32_t entered;
static uint32_t out_of_order;

static void *allocate(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes);
    if (memory == NULL) {
        fputs("edgekit's plugin: out of memory\n", stderr);
        abort();
    }
    return memory;
}

static bool is_caller(uint32_t address)
{
    for (uint32_t i = 0; i < caller_count; i++) {
        if (address >= callers[i].begin && address < callers[i].end) {
            return true;
        }
    }
    return false;
}

static bool is_layer(uint32_t address)
{
    for (uint32_t i = 0; i < layer_count; i++) {
        if (layers[i] == address) {
            return true;
        }
    }
    return false;
}

static uint32_t section_of(uint32_t address)
{
    if (section != 0) {
        return is_caller(address) ? 0 : section;
    }
    if (!is_layer(address)) {
        return 0;
    }
    entered++;
    if (layers[next_layer] != address) {
        out_of_order++;
    }
    const uint32_t index = next_layer;
    next_layer = (next_layer + 1) % layer_count;
    return index + 1;
}

/* Count that `following` ran after the block that is running; the last used edge comes first. */
static void note(uint32_t following)
{
    edge **link = &running->edges;
    while (*link != NULL && ((*link)->section != section || (*link)->following != following)) {
        link = &(*link)->next;
    }
    edge *found = *link;
    if (found == NULL) {
        found = allocate(NULL, sizeof *found);
        *found = (edge){NULL, section, following, 0};
        edge_count++;
    } else {
        *link = found->next;
    }
    found->next = running->edges;
    running->edges = found;
    found->times++;
}

static void on_executed(unsigned cpu, void *data)
{
    (void)cpu;
    block *now = data;
    if (running != NULL) {
        note(now->address);
    }
    section = section_of(now->address);
    running = now;
}

static block *find(uint32_t address, const uint8_t *code, uint32_t bytes)
{
    block **bucket = &buckets[address / 2 % BUCKETS];
    for (block *known = *bucket; known != NULL; known = known->next) {
        if (known->address == address && known->bytes == bytes
            && memcmp(known->code, code, bytes) == 0) {
            return known;
        }
    }
    block *made = allocate(NULL, sizeof *made + bytes);
    *made = (block){*bucket, address, bytes, block_count++, NULL};
    memcpy(made->code, code, bytes);
    *bucket = made;
    return made;
}

/* Bytes of a Thumb instruction, which its first halfword tells. QEMU's own figure counts a halfword
 * too many before the end of a page: it looks ahead whether the next instruction crosses it. */
static uint32_t thumb_bytes(const uint8_t *code)
{
    return code[1] >> 3 >= 0x1Du ? 4 : 2;
}

static void on_translated(uint64_t plugin, struct qemu_plugin_tb *tb)
{
    (void)plugin;
    uint8_t code[LONGEST_BLOCK];
    uint32_t bytes = 0;
    const size_t count = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < count; i++) {
        const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        const size_t size = qemu_plugin_insn_size(instruction);
        if (size > LONGEST_INSTRUCTION || bytes > sizeof code - LONGEST_INSTRUCTION) {
            fputs("edgekit's plugin: a block is longer than a page\n", stderr);
            abort();
        }
        if (copy != NULL) {
            copy(instruction, code + bytes, size);
        } else {
            memcpy(code + bytes, get(instruction), size);
        }
        bytes += thumb_bytes(code + bytes);
    }
    block *found = find((uint32_t)qemu_plugin_tb_vaddr(tb), code, bytes);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_executed, NO_REGISTERS, found);
}

static void put(FILE *stream, uint32_t word)
{
    fwrite(&word, sizeof word, 1, stream);
}

static void write_trace(FILE *stream)
{
    block **blocks = allocate(NULL, (block_count + 1) * sizeof *blocks);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (block *b = buckets[i]; b != NULL; b = b->next) {
            blocks[b->number] = b;
        }
    }
    fwrite("EKT1", 4, 1, stream);
    put(stream, block_count);
    put(stream, edge_count);
    put(stream, entered);
    put(stream, out_of_order);
    for (uint32_t i = 0; i < block_count; i++) {
        static const uint8_t padding[3];
        put(stream, blocks[i]->address);
        put(stream, blocks[i]->bytes);
        fwrite(blocks[i]->code, 1, blocks[i]->bytes, stream);
        fwrite(padding, 1, -blocks[i]->bytes % 4u, stream);
    }
    for (uint32_t i = 0; i < block_count; i++) {
        for (const edge *e = blocks[i]->edges; e != NULL; e = e->next) {
            put(stream, e->section);
            put(stream, i);
            put(stream, e->following);
            put(stream, (uint32_t)e->times);
            put(stream, (uint32_t)(e->times >> 32));
        }
    }
    free(blocks);
}

static void on_end(uint64_t plugin, void *data)
{
    (void)plugin;
    (void)data;
    if (running != NULL) {
        /* Nothing follows the last block: as if it ran on. */
        note(running->address + running->bytes);
        running = NULL;
    }
    FILE *stream = fopen(trace_file, "wb");
    if (stream == NULL) {
        fprintf(stderr, "edgekit's plugin: %s: %s\n", trace_file, strerror(errno));
        return;
    }
    write_trace(stream);
    /* A file cut short is told from its length. */
    fclose(stream);
}

/* What follows `name` in an argument `name=value`, NULL where it begins otherwise. */
static const char *value_of(const char *argument, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(argument, name, length) == 0 && argument[length] == '=' ? argument + length + 1
                                                                           : NULL;
}

static int read_argument(const char *argument)
{
    const char *value;
    char *rest;
    if ((value = value_of(argument, "trace")) != NULL) {
        trace_file = value;
        return 0;
    }
    if ((value = value_of(argument, "layer")) != NULL) {
        layers = allocate(layers, (layer_count + 1) * sizeof *layers);
        layers[layer_count++] = (uint32_t)strtoul(value, &rest, 0);
        return *rest != '\0';
    }
    if ((value = value_of(argument, "caller")) != NULL) {
        callers = allocate(callers, (caller_count + 1) * sizeof *callers);
        callers[caller_count].begin = (uint32_t)strtoul(value, &rest, 0);
        if (*rest != '-') {
            return 1;
        }
        callers[caller_count++].end = (uint32_t)strtoul(rest + 1, &rest, 0);
        return *rest != '\0';
    }
    return 1;
}

int qemu_plugin_install(uint64_t plugin, const about *qemu, int count, char **arguments)
{
    if (qemu->newest_api >= FIRST_THAT_COPIES) {
        copy = (copy_bytes)qemu_plugin_insn_data;
    } else {
        get = (get_bytes)qemu_plugin_insn_data;
    }
    for (int i = 0; i < count; i++) {
        if (read_argument(arguments[i]) != 0) {
            fprintf(stderr, "edgekit's plugin: %s?\n", arguments[i]);
            return 1;
        }
    }
    if (trace_file == NULL) {
        fputs("edgekit's plugin: trace=PATH is missing\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, on_translated);
    qemu_plugin_register_atexit_cb(plugin, on_end, NULL);
    return 0;
}
