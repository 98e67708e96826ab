/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sum of the weights of active inputs, all weights multiplied with 0 or 1.
 *
 * inputs: int32 [sets], inputs of a group by bit set; w: float32 [groups,outputs,inputs]; acc: float32
 * [batches,groups * outputs] or NULL for 0; s: [sets], each int32 [batches,words], bit set of groups
 * times its inputs neurons; y: float32 as acc; scratch: float32 [groups * inputs]. y may be acc, and must
 * not overlap anything else.
 */
#ifndef EK_SPIKE_DENSE_FULL_F32_H
#define EK_SPIKE_DENSE_FULL_F32_H

#include "ek_current_f32.h"
#include "ek_spike_expand_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t sets;
    int32_t groups;
    int32_t inputs;  /* of a group, all sets */
    int32_t outputs; /* of a group */
} ek_spike_dense_full_f32_params;

void EK_FN(spike_dense_full_f32)(
    const ek_spike_dense_full_f32_params *p,
    const int32_t *inputs,
    const float *w,
    const float *acc,
    const void *const *s,
    float *y,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_DENSE_FULL_F32_H */
