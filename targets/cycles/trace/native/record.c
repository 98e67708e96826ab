/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What a trace keeps of blocks, instructions and edges, and what its owner reads out of it.
 */
#include "state.h"

#include <stddef.h>

int ek_trace_fail(ek_trace *it, int64_t status)
{
    if (it->status == EK_FINE) {
        it->status = status;
    }
    return 0;
}

uint32_t ek_trace_add_block(ek_trace *it, uint64_t address, uint64_t bytes)
{
    const uint64_t most = it->owner.most_blocks;
    ek_block *blocks =
        ek_grown(it->blocks, &it->block_room, it->block_count, most, sizeof *blocks);
    it->blocks = blocks != NULL ? blocks : it->blocks;
    uint32_t *last =
        ek_grown(it->last_edges, &it->last_room, it->block_count, most, sizeof *last);
    it->last_edges = last != NULL ? last : it->last_edges;
    const uint32_t index = (uint32_t)it->block_count;
    if (blocks == NULL || last == NULL || !ek_table_add(&it->block_table, address, bytes, index)) {
        (void)ek_trace_fail(it, EK_NO_ROOM);
        return EK_NO_INDEX;
    }
    const ek_block block = {address, bytes, 0, it->step_count, it->step_count};
    it->blocks[index] = block;
    it->last_edges[index] = EK_NO_INDEX;
    it->block_count++;
    if (it->owner.describe != NULL && it->owner.describe(address, bytes) != 0) {
        (void)ek_trace_fail(it, EK_NO_ANSWER);
        return EK_NO_INDEX;
    }
    it->blocks[index].behind = it->step_count;
    return index;
}

uint32_t ek_trace_edge(ek_trace *it, uint32_t from, uint32_t to, uint64_t end)
{
    const uint32_t found = ek_table_find(&it->edge_table, from, to);
    if (found != EK_NO_INDEX) {
        return found;
    }
    ek_edge *edges = ek_grown(it->edges, &it->edge_room, it->edge_count, it->owner.most_edges,
                              sizeof *edges);
    it->edges = edges != NULL ? edges : it->edges;
    const uint32_t index = (uint32_t)it->edge_count;
    if (edges == NULL || !ek_table_add(&it->edge_table, from, to, index)) {
        (void)ek_trace_fail(it, EK_NO_ROOM);
        return EK_NO_INDEX;
    }
    int64_t ticks = 0;
    if (it->owner.jump != NULL) {
        const ek_block *left = &it->blocks[from];
        const ek_block *next = to == EK_NO_INDEX ? NULL : &it->blocks[to];
        ticks = it->owner.jump(left->address, left->bytes, next == NULL ? end : next->address,
                               next == NULL ? 0 : next->bytes);
        if (ticks == INT64_MIN) {
            (void)ek_trace_fail(it, EK_NO_ANSWER);
            return EK_NO_INDEX;
        }
    }
    const ek_edge edge = {from, to, 0, ticks};
    it->edges[index] = edge;
    it->edge_count++;
    return index;
}

int64_t ek_trace_describe(ek_trace *it, const ek_step *steps, uint64_t count)
{
    const uint64_t most = it->owner.most_steps;
    for (uint64_t i = 0; i < count; i++) {
        ek_step *room = ek_grown(it->steps, &it->step_room, it->step_count, most, sizeof *room);
        it->steps = room != NULL ? room : it->steps;
        ek_step_cost *costs =
            ek_grown(it->costs, &it->cost_room, it->step_count, most, sizeof *costs);
        it->costs = costs != NULL ? costs : it->costs;
        if (room == NULL || costs == NULL) {
            (void)ek_trace_fail(it, EK_NO_ROOM);
            return -1;
        }
        const ek_step_cost nothing = {0, 0, 0};
        it->steps[it->step_count] = steps[i];
        it->costs[it->step_count] = nothing;
        it->step_count++;
    }
    return 0;
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
