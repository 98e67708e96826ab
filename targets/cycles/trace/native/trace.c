/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Notes the basic blocks that an emulated core executes, and what the memory makes them wait. The
 * specification is recorder.py: every figure here equals that one's.
 *
 * A block is accounted for when the next one begins: only then it is known that it ran, what it
 * read and wrote. What it costs without waiting is asked once per block and once per pair of
 * blocks, of functions that the owner of the trace gives.
 */
#include "trace.h"

#include "memory.h"
#include "table.h"

#include <stdlib.h>

/* What a trace may grow to; more is an error. A block is at most a page. */
#define MOST_BLOCKS ((uint64_t)1 << 20)
#define MOST_EDGES ((uint64_t)1 << 22)
#define MOST_STEPS ((uint64_t)1 << 24)
#define MOST_ACCESSES ((uint64_t)1 << 17)

typedef struct {
    uint64_t offset; /* of the instruction in its block */
    uint64_t address;
    uint64_t bytes;
    int writes;
} access;

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

    uint32_t previous; /* the block accounted for last */
    int is_running;    /* whether a block runs that is not accounted for; address and bytes */
    uint64_t address;
    uint64_t bytes;
    access *accesses; /* that it made */
    uint64_t access_count, access_room;
};

static int fail(ek_trace *it, int64_t status)
{
    if (it->status == EK_FINE) {
        it->status = status;
    }
    return 0;
}

/* ---- tables of blocks and edges ---- */

/* Index of a block that is new to the trace. */
static uint32_t add_block(ek_trace *it, uint64_t address, uint64_t bytes)
{
    ek_block *blocks =
        ek_grown(it->blocks, &it->block_room, it->block_count, MOST_BLOCKS, sizeof *blocks);
    it->blocks = blocks != NULL ? blocks : it->blocks;
    uint32_t *last =
        ek_grown(it->last_edges, &it->last_room, it->block_count, MOST_BLOCKS, sizeof *last);
    it->last_edges = last != NULL ? last : it->last_edges;
    const uint32_t index = (uint32_t)it->block_count;
    if (blocks == NULL || last == NULL || !ek_table_add(&it->block_table, address, bytes, index)) {
        (void)fail(it, EK_NO_ROOM);
        return EK_NO_INDEX;
    }
    const ek_block block = {address, bytes, 0, it->step_count, it->step_count};
    it->blocks[index] = block;
    it->last_edges[index] = EK_NO_INDEX;
    it->block_count++;
    if (it->owner.describe != NULL && it->owner.describe(address, bytes) != 0) {
        (void)fail(it, EK_NO_ANSWER);
        return EK_NO_INDEX;
    }
    it->blocks[index].behind = it->step_count;
    return index;
}

/* Index of the edge between two blocks. */
static uint32_t edge_between(ek_trace *it, uint32_t from, uint32_t to, uint64_t end)
{
    const uint32_t found = ek_table_find(&it->edge_table, from, to);
    if (found != EK_NO_INDEX) {
        return found;
    }
    ek_edge *edges = ek_grown(it->edges, &it->edge_room, it->edge_count, MOST_EDGES, sizeof *edges);
    it->edges = edges != NULL ? edges : it->edges;
    const uint32_t index = (uint32_t)it->edge_count;
    if (edges == NULL || !ek_table_add(&it->edge_table, from, to, index)) {
        (void)fail(it, EK_NO_ROOM);
        return EK_NO_INDEX;
    }
    int64_t ticks = 0;
    if (it->owner.jump != NULL) {
        const ek_block *left = &it->blocks[from];
        const ek_block *next = to == EK_NO_INDEX ? NULL : &it->blocks[to];
        ticks = it->owner.jump(left->address, left->bytes, next == NULL ? end : next->address,
                               next == NULL ? 0 : next->bytes);
        if (ticks == INT64_MIN) {
            (void)fail(it, EK_NO_ANSWER);
            return EK_NO_INDEX;
        }
    }
    const ek_edge edge = {from, to, 0, ticks};
    it->edges[index] = edge;
    it->edge_count++;
    return index;
}

/* ---- accounting ---- */

/* Let the block wait for its instructions and its data. */
static int wait_for_memory(ek_trace *it, const ek_block *block)
{
    const access *next = it->accesses;
    const access *end = it->accesses + it->access_count;
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
                ek_memories_store(it->memories, next->address, next->bytes);
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
        return fail(it, EK_STRAY_ACCESS);
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
        index = edge_between(it, from, to, end);
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
    return found != EK_NO_INDEX ? found : add_block(it, it->address, it->bytes);
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

ek_trace *ek_trace_create(const ek_owner *owner, const ek_memory_shape *memories,
                          uint64_t memory_count, const ek_cache_shape *caches, uint64_t cache_count)
{
    ek_trace *it = calloc(1, sizeof *it);
    if (it == NULL) {
        return NULL;
    }
    it->owner = *owner;
    it->previous = EK_NO_INDEX;
    it->memories = ek_memories_create(memories, memory_count, caches, cache_count);
    if (it->memories == NULL) {
        free(it);
        return NULL;
    }
    return it;
}

void ek_trace_destroy(ek_trace *it)
{
    if (it == NULL) {
        return;
    }
    ek_memories_destroy(it->memories);
    free(it->blocks);
    free(it->edges);
    free(it->steps);
    free(it->costs);
    free(it->last_edges);
    free(it->block_table.slots);
    free(it->edge_table.slots);
    free(it->accesses);
    free(it);
}

const ek_owner *ek_trace_owner(const ek_trace *it)
{
    return &it->owner;
}

int64_t ek_trace_describe(ek_trace *it, const ek_step *steps, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        ek_step *room =
            ek_grown(it->steps, &it->step_room, it->step_count, MOST_STEPS, sizeof *room);
        it->steps = room != NULL ? room : it->steps;
        ek_step_cost *costs =
            ek_grown(it->costs, &it->cost_room, it->step_count, MOST_STEPS, sizeof *costs);
        it->costs = costs != NULL ? costs : it->costs;
        if (room == NULL || costs == NULL) {
            (void)fail(it, EK_NO_ROOM);
            return -1;
        }
        const ek_step_cost nothing = {0, 0, 0};
        it->steps[it->step_count] = steps[i];
        it->costs[it->step_count] = nothing;
        it->step_count++;
    }
    return 0;
}

int64_t ek_trace_block(ek_trace *it, uint64_t address, uint64_t bytes)
{
    if (it->status != EK_FINE || !retire(it)) {
        return 0;
    }
    it->address = address;
    it->bytes = bytes;
    it->access_count = 0;
    it->is_running = 1;
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
        return fail(it, EK_STRAY_ACCESS);
    }
    access *room = ek_grown(it->accesses, &it->access_room, it->access_count, MOST_ACCESSES,
                            sizeof *room);
    if (room == NULL) {
        return fail(it, EK_NO_ROOM);
    }
    const access made = {offset, address, bytes, writes != 0};
    it->accesses = room;
    it->accesses[it->access_count++] = made;
    return 1;
}

int64_t ek_trace_finish(ek_trace *it, uint64_t end)
{
    return it->status == EK_FINE && retire(it) && pass(it, EK_NO_INDEX, end);
}

void ek_trace_summary(const ek_trace *it, uint64_t summary[5])
{
    summary[0] = (uint64_t)it->status;
    summary[1] = it->stray_pc;
    summary[2] = it->block_count;
    summary[3] = it->edge_count;
    summary[4] = it->step_count;
}

const ek_block *ek_trace_blocks(const ek_trace *it)
{
    return it->blocks;
}

const ek_edge *ek_trace_edges(const ek_trace *it)
{
    return it->edges;
}

const ek_step_cost *ek_trace_costs(const ek_trace *it)
{
    return it->costs;
}
