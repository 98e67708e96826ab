/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Active neurons of several bit sets, one after the other.
 */
#ifndef EK_SPIKE_SETS_H
#define EK_SPIKE_SETS_H

#include "ek_spike.h"

/* The neurons of one group, of several bit sets. */
typedef struct {
    const void *const *sets;
    const int32_t *inputs; /* of a group, by set */
    int32_t count;         /* of sets */
    int32_t groups;
    int32_t batch;
    int32_t group;
    int32_t next; /* set behind the one that is scanned */
    int32_t base; /* input of the sum that neuron 0 of the scan is */
    ek_spike_scan scan;
} ek_spike_sets;

/* Go on with the next bit set, which must be there. */
EK_SPIKE_INLINE void ek_spike_next_set(ek_spike_sets *all)
{
    const int32_t inputs = all->inputs[all->next];
    const int32_t words = ek_spike_words(all->groups * inputs);
    const int32_t *const set = (const int32_t *)all->sets[all->next] + all->batch * words;

    all->base += all->next == 0 ? 0 : all->inputs[all->next - 1];
    all->scan = ek_spike_begin(set, all->group * inputs, inputs);
    ++all->next;
}

/* List active inputs of a group, `room` at most; fewer only where there are no others. */
EK_SPIKE_INLINE int32_t ek_spike_collect_sets(
    ek_spike_sets *all, int32_t step, int32_t *list, int32_t room)
{
    int32_t found = 0;

    for (;;) {
        found = ek_spike_collect(&all->scan, all->base, step, list, found, room);
        if (found == room || all->next == all->count) {
            return found;
        }
        ek_spike_next_set(all);
    }
}

EK_SPIKE_INLINE ek_spike_sets ek_spike_first_set(
    const void *const *sets,
    const int32_t *inputs,
    int32_t count,
    int32_t groups,
    int32_t batch,
    int32_t group)
{
    ek_spike_sets all;

    all.sets = sets;
    all.inputs = inputs;
    all.count = count;
    all.groups = groups;
    all.batch = batch;
    all.group = group;
    all.next = 0;
    all.base = 0;
    ek_spike_next_set(&all);
    return all;
}

#endif /* EK_SPIKE_SETS_H */
