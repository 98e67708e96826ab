/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sum of the weights of active inputs, all weights multiplied with 0 or 1.
 *
 * inputs: int32 [sets], inputs of a group by bit set; w: int8 [groups,outputs,inputs]; acc: int32
 * [batches,groups * outputs] or NULL for 0; s: [sets], each int32 [batches,words], bit set of groups
 * times its inputs neurons; y: int32 as acc; scratch: int8 [groups * inputs]. y may be acc, and must
 * not overlap anything else.
 */
#ifndef EK_SPIKE_DENSE_FULL_S8_H
#define EK_SPIKE_DENSE_FULL_S8_H

#include "ek_current_s8.h"
#include "ek_spike.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t sets;
    int32_t groups;
    int32_t inputs;  /* of a group, all sets */
    int32_t outputs; /* of a group */
} ek_spike_dense_full_s8_params;

void EK_FN(spike_dense_full_s8)(
    const ek_spike_dense_full_s8_params *p,
    const int32_t *inputs,
    const int8_t *w,
    const int32_t *acc,
    const void *const *s,
    int32_t *y,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_DENSE_FULL_S8_H */
