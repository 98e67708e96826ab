/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What a trace is made of: for trace.c, which runs it, and record.c, which keeps what ran.
 */
#ifndef EK_STATE_H
#define EK_STATE_H

#include "memory.h"
#include "table.h"
#include "trace.h"

#include <stdint.h>

typedef struct {
    uint64_t offset; /* of the instruction in its block */
    uint64_t address;
    uint64_t bytes;
    int writes;
} ek_access;

struct ek_trace {
    ek_owner owner;
    ek_memories *memories;
    int64_t now;
    uint64_t instructions;
    int64_t status;
    uint64_t stray_pc;

    ek_block *blocks;
    ek_edge *edges;
    ek_step *steps;
    ek_step_cost *costs;  /* as many as steps */
    uint32_t *last_edges; /* of each block, the one it left by last */
    uint64_t block_count, edge_count, step_count;
    uint64_t block_room, edge_room, step_room, cost_room, last_room;
    ek_table block_table, edge_table;
    ek_table cut_table; /* of code that the emulator cut off: whether it goes on */

    uint32_t previous; /* the block accounted for last */
    int is_running;    /* whether a block runs that is not accounted for; address and bytes */
    uint64_t address;
    uint64_t bytes;
    uint64_t piece; /* address and bytes of what the emulator began last */
    uint64_t piece_bytes;
    ek_access *accesses; /* that it made */
    uint64_t access_count, access_room;
};

/* Note what went wrong first; returns 0. */
int ek_trace_fail(ek_trace *it, int64_t status);

/* Index of a block that is new to the trace, EK_NO_INDEX where it failed. */
uint32_t ek_trace_add_block(ek_trace *it, uint64_t address, uint64_t bytes);

/* Index of the edge between two blocks, EK_NO_INDEX where it failed; `to` is EK_NO_INDEX for the end
 * of the call, at `end`. */
uint32_t ek_trace_edge(ek_trace *it, uint32_t from, uint32_t to, uint64_t end);

#endif
