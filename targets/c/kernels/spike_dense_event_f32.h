/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sum of the float32 weights of active inputs, event-driven.
 *
 * inputs: int32 [sets], inputs of a group by bit set, whose sum is that of the sum; w: float32, in
 * the blocks of ek_spike_f32.h, group by group; acc: float32 [batches,outputs] or NULL for 0; s:
 * [sets], each int32 [batches,words], bit set of groups * inputs neurons; y: float32
 * [batches,outputs]. y may be acc, and must not overlap s.
 */
#ifndef EK_SPIKE_DENSE_EVENT_F32_H
#define EK_SPIKE_DENSE_EVENT_F32_H

#include "ek_spike_f32.h"
#include "ek_spike_sets.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t sets;
    ek_spike_sum_f32 sum;
} ek_spike_dense_event_f32_params;

void EK_FN(spike_dense_event_f32)(
    const ek_spike_dense_event_f32_params *p,
    const int32_t *inputs,
    const float *w,
    const float *acc,
    const void *const *s,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_DENSE_EVENT_F32_H */
