/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Notes the basic blocks that an emulated core executes, and what the memory makes them wait. The
 * specification is recorder.py: every figure here equals that one's.
 *
 * The emulator also cuts code where a page ends: what it cut without a branch is joined again. A
 * block is accounted for when the next one begins: only then it is known that it ran, what it read
 * and wrote. What it costs without waiting is asked once per block and once per pair of blocks, of
 * functions that the owner of the trace gives.
 */
#include "state.h"

#include <stdlib.h>

/* ---- accounting ---- */

/* Let the block wait for its instructions and its data. */
static int wait_for_memory(ek_trace *it, const ek_block *block)
{
    const ek_access *next = it->accesses;
    const ek_access *end = it->accesses + it->access_count;
    for (uint64_t i = block->first; i < block->behind; i++) {
        const ek_step *step = &it->steps[i];
        ek_step_cost *cost = &it->costs[i];
        const int64_t wanted = it->now;
        it->now = ek_memories_fetch(it->memories, (block->address & ~(uint64_t)1) + step->offset,
                                    step->bytes, wanted);
        cost->fetch += it->now - wanted;
        if (step->skipped_ticks >= 0 && (next == end || next->offset != step->offset)) {
            cost->skipped++;
            it->now += step->skipped_ticks;
            continue;
        }
        /* Data arrives a cycle after the issue at the earliest; the bus takes one access a cycle. */
        int64_t at = it->now, waited = 0;
        for (; next != end && next->offset == step->offset; next++) {
            at += EK_TICKS_PER_CYCLE;
            if (next->writes) {
                ek_memories_store(it->memories, next->address, next->bytes, at);
            } else {
                const int64_t come =
                    ek_memories_load(it->memories, next->address, next->bytes, at);
                waited += come - at;
                at = come;
            }
        }
        cost->load += waited;
        it->now += step->ticks + waited;
    }
    if (next != end) {
        it->stray_pc = block->address + next->offset;
        return ek_trace_fail(it, EK_STRAY_ACCESS);
    }
    return 1;
}

/* Pass from the block accounted for last to `to`. */
static int pass(ek_trace *it, uint32_t to, uint64_t end)
{
    const uint32_t from = it->previous;
    if (from == EK_NO_INDEX) {
        return 1;
    }
    uint32_t index = it->last_edges[from];
    if (index == EK_NO_INDEX || it->edges[index].to != to) {
        index = ek_trace_edge(it, from, to, end);
        if (index == EK_NO_INDEX) {
            return 0;
        }
        it->last_edges[from] = index;
    }
    it->edges[index].times++;
    it->now += it->edges[index].ticks;
    return 1;
}

/* Index of the block that runs: often it is the one that followed the last time, too. */
static uint32_t running_block(ek_trace *it)
{
    if (it->previous != EK_NO_INDEX && it->last_edges[it->previous] != EK_NO_INDEX) {
        const uint64_t usual = it->edges[it->last_edges[it->previous]].to;
        if (usual != EK_NO_INDEX && it->blocks[usual].address == it->address &&
            it->blocks[usual].bytes == it->bytes) {
            return (uint32_t)usual;
        }
    }
    const uint32_t found = ek_table_find(&it->block_table, it->address, it->bytes);
    return found != EK_NO_INDEX ? found : ek_trace_add_block(it, it->address, it->bytes);
}

/* Whether the block that runs goes on at `address`: 1 where it got there without a branch, 0 where
 * not, -1 where it failed. */
static int is_cut(ek_trace *it, uint64_t address)
{
    if (!it->is_running || it->owner.goes_on == NULL || it->address + it->bytes != address) {
        return 0;
    }
    const uint32_t known = ek_table_find(&it->cut_table, it->piece, it->piece_bytes);
    if (known != EK_NO_INDEX) {
        return (int)known;
    }
    const int64_t answer = it->owner.goes_on(it->piece, it->piece_bytes);
    if (answer < 0) {
        (void)ek_trace_fail(it, EK_NO_ANSWER);
        return -1;
    }
    const uint32_t goes_on = answer != 0;
    if (!ek_table_add(&it->cut_table, it->piece, it->piece_bytes, goes_on)) {
        (void)ek_trace_fail(it, EK_NO_ROOM);
        return -1;
    }
    return (int)goes_on;
}

/* Account for the block that has run. */
static int retire(ek_trace *it)
{
    if (!it->is_running) {
        return 1;
    }
    const uint32_t index = running_block(it);
    if (index == EK_NO_INDEX || !pass(it, index, 0)) {
        return 0;
    }
    ek_block *block = &it->blocks[index];
    block->times++;
    const uint64_t steps = block->behind - block->first;
    /* Without a description: as many as there are at least. */
    it->instructions += steps > 0 ? steps : (it->bytes + 3) / 4;
    it->previous = index;
    it->is_running = 0;
    return steps == 0 || wait_for_memory(it, block);
}

/* ---- the trace ---- */

ek_trace *ek_trace_create(const ek_owner *owner, ek_memories *memories)
{
    ek_trace *it = calloc(1, sizeof *it);
    if (it == NULL) {
        return NULL;
    }
    it->owner = *owner;
    it->previous = EK_NO_INDEX;
    it->memories = memories;
    ek_memories_settle(memories);
    return it;
}

void ek_trace_destroy(ek_trace *it)
{
    if (it == NULL) {
        return;
    }
    free(it->blocks);
    free(it->edges);
    free(it->steps);
    free(it->costs);
    free(it->last_edges);
    free(it->block_table.slots);
    free(it->edge_table.slots);
    free(it->cut_table.slots);
    free(it->accesses);
    free(it);
}

const ek_owner *ek_trace_owner(const ek_trace *it)
{
    return &it->owner;
}

int64_t ek_trace_block(ek_trace *it, uint64_t address, uint64_t bytes)
{
    if (it->status != EK_FINE) {
        return 0;
    }
    const int joins = is_cut(it, address);
    if (joins < 0) {
        return 0;
    }
    if (joins) {
        it->bytes += bytes;
    } else {
        if (!retire(it)) {
            return 0;
        }
        it->address = address;
        it->bytes = bytes;
        it->access_count = 0;
        it->is_running = 1;
    }
    it->piece = address;
    it->piece_bytes = bytes;
    return it->instructions < it->owner.instruction_limit;
}

int64_t ek_trace_access(ek_trace *it, uint64_t pc, uint64_t address, uint64_t bytes,
                        int64_t writes)
{
    if (it->status != EK_FINE) {
        return 0;
    }
    const uint64_t offset = pc - (it->address & ~(uint64_t)1);
    if (!it->is_running || offset >= it->bytes || bytes == 0) {
        it->stray_pc = pc;
        return ek_trace_fail(it, EK_STRAY_ACCESS);
    }
    ek_access *room = ek_grown(it->accesses, &it->access_room, it->access_count,
                               it->owner.most_accesses, sizeof *room);
    if (room == NULL) {
        return ek_trace_fail(it, EK_NO_ROOM);
    }
    const ek_access made = {offset, address, bytes, writes != 0};
    it->accesses = room;
    it->accesses[it->access_count++] = made;
    return 1;
}

int64_t ek_trace_finish(ek_trace *it, uint64_t end)
{
    return it->status == EK_FINE && retire(it) && pass(it, EK_NO_INDEX, end);
}
