/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Counts of spikes over time.
 *
 * s: int32 [batches,set_words], bit set; count, y: float32 [batches,neurons], which may be the same.
 * y = count + 1 where a neuron spikes, else count + 0.
 */
#ifndef EK_SPIKE_COUNT_F32_H
#define EK_SPIKE_COUNT_F32_H

#include "ek_ieee.h"
#include "ek_spike.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t set_words; /* of the bit set of a batch */
    int32_t neurons;   /* of a batch */
} ek_spike_count_f32_params;

void EK_FN(spike_count_f32)(
    const ek_spike_count_f32_params *p,
    const int32_t *s,
    const float *count,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_COUNT_F32_H */
