/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A plugin of QEMU's translator that notes what a microcontroller executes: straight runs of code,
 * what ran next after each, and the code's bytes, apart for every layer of a network.
 *
 * What runs is cut into sections. Section 0 is what calls the layers; section i + 1 is layer i, from
 * the first instruction of its function until a block of a caller begins. Layers are entered in
 * order, again and again: the order tells two layers apart that the linker gave one address.
 *
 * Arguments, as QEMU hands them on:
 *   trace=PATH           where the trace goes when the machine stops
 *   layer=ADDRESS        one per layer, in order
 *   caller=BEGIN-END     half-open; one per function that calls layers
 *
 * Compile with EK_PLUGIN_API set to a version that the QEMU at hand accepts. Debian ships no header
 * of the interface: what is used of it is declared here, from QEMU's documentation ("QEMU TCG
 * Plugins", API).
 */
#include "qemu_runs.h"

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

static bool is_running;
static uint32_t run_address;
static uint32_t run_bytes;
static uint32_t section;
static uint32_t next_layer;
static uint32_t entered;
static uint32_t out_of_order;

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

static void on_executed(unsigned cpu, void *data)
{
    (void)cpu;
    const ek_piece *now = data;
    const uint32_t within = section_of(now->address);
    if (is_running && within == section && now->address == run_address + run_bytes) {
        run_bytes += now->bytes;
        return;
    }
    if (is_running) {
        ek_note_run(section, run_address, run_bytes, now->address);
    }
    is_running = true;
    section = within;
    run_address = now->address;
    run_bytes = now->bytes;
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
    ek_piece *found = ek_piece_of((uint32_t)qemu_plugin_tb_vaddr(tb), code, bytes);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_executed, NO_REGISTERS, found);
}

static void on_end(uint64_t plugin, void *data)
{
    (void)plugin;
    (void)data;
    if (is_running) {
        /* Nothing follows the last run: as if it went on. */
        ek_note_run(section, run_address, run_bytes, run_address + run_bytes);
        is_running = false;
    }
    FILE *stream = fopen(trace_file, "wb");
    if (stream == NULL) {
        fprintf(stderr, "edgekit's plugin: %s: %s\n", trace_file, strerror(errno));
        return;
    }
    ek_write_runs(stream, entered, out_of_order);
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
        layers = ek_allocate(layers, (layer_count + 1) * sizeof *layers);
        layers[layer_count++] = (uint32_t)strtoul(value, &rest, 0);
        return *rest != '\0';
    }
    if ((value = value_of(argument, "caller")) != NULL) {
        callers = ek_allocate(callers, (caller_count + 1) * sizeof *callers);
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
