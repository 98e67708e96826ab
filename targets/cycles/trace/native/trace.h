/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A record of the basic blocks that an emulated core executes; see trace.c.
 */
#ifndef EK_TRACE_H
#define EK_TRACE_H

#include "memory.h"

#include <stdint.h>

/* What became of a trace. */
enum { EK_FINE, EK_NO_ROOM, EK_NO_ANSWER, EK_STRAY_ACCESS };

/* One instruction of a block: its place, its ticks, and its ticks when it is skipped; -1 where that
 * cannot be told: it always runs, or makes no access. */
typedef struct {
    uint64_t offset;
    uint64_t bytes;
    int64_t ticks;
    int64_t skipped_ticks;
} ek_step;

/* What became of it, summed up: how often it was skipped, and ticks of waiting. */
typedef struct {
    uint64_t skipped;
    int64_t fetch;
    int64_t load;
} ek_step_cost;

/* A block; its instructions are those from index `first` to before `behind`. */
typedef struct {
    uint64_t address;
    uint64_t bytes;
    uint64_t times;
    uint64_t first;
    uint64_t behind;
} ek_block;

/* A block and the one that ran next, by index; UINT32_MAX stands for the end of the call. */
typedef struct {
    uint64_t from;
    uint64_t to;
    uint64_t times;
    int64_t ticks;
} ek_edge;

typedef struct {
    /* Whether code that the emulator cut off ends without a branch: 1, 0, or negative: it failed.
     * NULL: blocks are taken as they come. */
    int64_t (*goes_on)(uint64_t address, uint64_t bytes);
    /* Gives the instructions of a block to ek_trace_describe; answers 0, else it failed. NULL:
     * blocks are only counted. */
    int64_t (*describe)(uint64_t address, uint64_t bytes);
    /* Ticks of passing from a block to the next, whose bytes are 0 at the end of the call;
     * INT64_MIN: it failed. */
    int64_t (*jump)(uint64_t address, uint64_t bytes, uint64_t to, uint64_t to_bytes);
    uint64_t instruction_limit;
    /* What the trace may grow to; the last is of one execution of a block. */
    uint64_t most_blocks, most_edges, most_steps, most_accesses;
    /* Of unicorn, for the hooks; NULL without. */
    int (*read_register)(void *core, int number, void *value);
    int (*write_register)(void *core, int number, const void *value);
    int (*stop)(void *core);
    int64_t pc_register;
    int64_t mark_register; /* its bit `mark_bit` is bit 0 of a block's address; -1: none */
    int64_t mark_bit;
    int64_t write_access; /* what unicorn calls an access that writes */
    int64_t it_register;  /* holds the state of IT blocks; -1: none */
} ek_owner;

typedef struct ek_trace ek_trace;

/* An empty trace on memories as the call before left them, which stay the caller's and as long as
 * the trace; NULL: no room. */
EXPORTED ek_trace *ek_trace_create(const ek_owner *owner, ek_memories *memories);
EXPORTED void ek_trace_destroy(ek_trace *it);
const ek_owner *ek_trace_owner(const ek_trace *it);

/* Called by the owner's `describe`: the instructions of the block it was asked for. Returns 0, or -1
 * where there is no room. */
EXPORTED int64_t ek_trace_describe(ek_trace *it, const ek_step *steps, uint64_t count);

/* Code of the emulator's begins: a block, or the rest of one. Returns 0 when the core is to stop. */
EXPORTED int64_t ek_trace_block(ek_trace *it, uint64_t address, uint64_t bytes);

/* The block that runs makes an access, by the instruction at `pc`. Returns as ek_trace_block. */
EXPORTED int64_t ek_trace_access(ek_trace *it, uint64_t pc, uint64_t address, uint64_t bytes,
                                 int64_t writes);

/* The call has returned to `end`. Returns 0 where it failed. */
EXPORTED int64_t ek_trace_finish(ek_trace *it, uint64_t end);

/* Status, program counter of a stray access, and how many blocks, edges and instructions there are
 * to read out. */
EXPORTED void ek_trace_summary(const ek_trace *it, uint64_t summary[5]);
EXPORTED const ek_block *ek_trace_blocks(const ek_trace *it);
EXPORTED const ek_edge *ek_trace_edges(const ek_trace *it);
EXPORTED const ek_step_cost *ek_trace_costs(const ek_trace *it);

/* What unicorn calls, with the trace as the user's data. */
EXPORTED void ek_on_block(void *core, uint64_t address, uint32_t bytes, void *trace);
EXPORTED void ek_on_access(void *core, int kind, uint64_t address, int bytes, int64_t value,
                           void *trace);

#endif
