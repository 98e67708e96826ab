/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Counts of spikes over time.
 *
 * s: int32 [batches,set_words], bit set; count, y: int32 [batches,neurons], which may be the same.
 * y = count + 1 where a neuron spikes and count is not INT32_MAX, else count.
 */
#ifndef EK_SPIKE_COUNT_S32_H
#define EK_SPIKE_COUNT_S32_H

#include "ek_spike.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t set_words; /* of the bit set of a batch */
    int32_t neurons;   /* of a batch */
} ek_spike_count_s32_params;

void EK_FN(spike_count_s32)(
    const ek_spike_count_s32_params *p,
    const int32_t *s,
    const int32_t *count,
    int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_COUNT_S32_H */
