/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sum of the weights of active inputs, event-driven; weights in fields of 4 bits, of which 15 means 16.
 *
 * inputs: int32 [sets], inputs of a group by bit set, whose sum is that of the sum; w: int32, the
 * words of ek_spike_sum.h, group by group, of each block by block, of each input by input; acc: int32
 * [batches,outputs] or NULL for 0; s: [sets], each int32 [batches,words], bit set of groups * inputs
 * neurons; y: int32 [batches,outputs]. y may be acc, and must not overlap s.
 */
#ifndef EK_SPIKE_DENSE_EVENT_B4C_H
#define EK_SPIKE_DENSE_EVENT_B4C_H

#include "ek_spike_dense.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t sets;
    ek_spike_sum sum;
} ek_spike_dense_event_b4c_params;

void EK_FN(spike_dense_event_b4c)(
    const ek_spike_dense_event_b4c_params *p,
    const int32_t *inputs,
    const int32_t *w,
    const int32_t *acc,
    const void *const *s,
    int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_DENSE_EVENT_B4C_H */
