/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Event-driven dense sums over any number of bit sets: the active inputs of a group are listed, set
 * by set, as many as the lanes take, and their weights added to every output of the group; then the
 * next ones.
 */
#ifndef EK_SPIKE_DENSE_H
#define EK_SPIKE_DENSE_H

#include "ek_spike_sets.h"
#include "ek_spike_sum.h"

EK_SPIKE_INLINE void ek_spike_dense(
    int32_t batches,
    int32_t count,
    const ek_spike_sum *sum,
    int32_t field,
    const int32_t *inputs,
    const int32_t *w,
    const int32_t *acc,
    const void *const *s,
    int32_t *y)
{
    for (int32_t n = 0; n < batches; ++n) {
        const uint32_t *group = (const uint32_t *)w;
        for (int32_t g = 0; g < sum->groups; ++g, group += sum->inputs * sum->words) {
            ek_spike_sets all = ek_spike_first_set(s, inputs, count, sum->groups, n, g);
            const int32_t *from = acc;
            int32_t found;
            do {
                int32_t list[EK_SPIKE_ROOM + 1];
                found = ek_spike_collect_sets(&all, EK_SPIKE_STEP, list, sum->room);
                ek_spike_add(sum, field, list, found, group, from, y);
                from = y;
            } while (found == sum->room);
            acc = acc == NULL ? NULL : acc + sum->outputs;
            y += sum->outputs;
        }
    }
}

#endif /* EK_SPIKE_DENSE_H */
