/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "qemu_runs.h"

#include "table.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096

/* A straight run of code, and what ran next. */
typedef struct {
    uint32_t section;
    uint32_t address;
    uint32_t bytes;
    uint32_t following;
    uint64_t times;
} run;

static ek_piece *buckets[BUCKETS];
static uint32_t piece_count;

static run *runs;
static uint64_t run_count;
static uint64_t run_room;
static ek_table run_table;

static void *required(void *memory)
{
    if (memory == NULL) {
        fputs("edgekit's plugin: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *ek_allocate(void *old, size_t bytes)
{
    return required(realloc(old, bytes));
}

void ek_note_run(uint32_t section, uint32_t address, uint32_t bytes, uint32_t following)
{
    const uint64_t from = (uint64_t)address << 32 | bytes;
    const uint64_t to = (uint64_t)section << 32 | following;
    uint32_t index = ek_table_find(&run_table, from, to);
    if (index == EK_NO_INDEX) {
        runs = required(ek_grown(runs, &run_room, run_count, EK_NO_INDEX, sizeof *runs));
        index = (uint32_t)run_count++;
        runs[index] = (run){section, address, bytes, following, 0};
        required(ek_table_add(&run_table, from, to, index) ? runs : NULL);
    }
    runs[index].times++;
}

ek_piece *ek_piece_of(uint32_t address, const uint8_t *code, uint32_t bytes)
{
    ek_piece **bucket = &buckets[address / 2 % BUCKETS];
    for (ek_piece *known = *bucket; known != NULL; known = known->next) {
        if (known->address == address && known->bytes == bytes
            && memcmp(known->code, code, bytes) == 0) {
            return known;
        }
    }
    ek_piece *made = ek_allocate(NULL, sizeof *made + bytes);
    *made = (ek_piece){*bucket, address, bytes};
    memcpy(made->code, code, bytes);
    *bucket = made;
    piece_count++;
    return made;
}

static void put(FILE *stream, uint32_t word)
{
    fwrite(&word, sizeof word, 1, stream);
}

static void put_piece(FILE *stream, const ek_piece *p)
{
    static const uint8_t padding[3];
    put(stream, p->address);
    put(stream, p->bytes);
    fwrite(p->code, 1, p->bytes, stream);
    fwrite(padding, 1, -p->bytes % 4u, stream);
}

void ek_write_runs(FILE *stream, uint32_t entered, uint32_t out_of_order)
{
    fwrite("EKT2", 4, 1, stream);
    put(stream, piece_count);
    put(stream, (uint32_t)run_count);
    put(stream, entered);
    put(stream, out_of_order);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (const ek_piece *p = buckets[i]; p != NULL; p = p->next) {
            put_piece(stream, p);
        }
    }
    for (uint64_t i = 0; i < run_count; i++) {
        put(stream, runs[i].section);
        put(stream, runs[i].address);
        put(stream, runs[i].bytes);
        put(stream, runs[i].following);
        put(stream, (uint32_t)runs[i].times);
        put(stream, (uint32_t)(runs[i].times >> 32));
    }
}
