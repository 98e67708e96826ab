/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Spikes as numbers 0 and 1.
 *
 * s: int32 [batches,set_words], bit set; y: float32 [batches,neurons]. y must not overlap s.
 */
#ifndef EK_SPIKE_VALUES_F32_H
#define EK_SPIKE_VALUES_F32_H

#include "ek_spike_expand_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t set_words; /* of the bit set of a batch */
    int32_t neurons;   /* of a batch */
} ek_spike_values_f32_params;

void EK_FN(spike_values_f32)(
    const ek_spike_values_f32_params *p,
    const int32_t *s,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_VALUES_F32_H */
