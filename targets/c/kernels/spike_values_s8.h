/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Spikes as numbers 0 and 1.
 *
 * s: int32 [batches,set_words], bit set; y: int8 [batches,neurons]. y must not overlap s.
 */
#ifndef EK_SPIKE_VALUES_S8_H
#define EK_SPIKE_VALUES_S8_H

#include "ek_spike.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t set_words; /* of the bit set of a batch */
    int32_t neurons;   /* of a batch */
} ek_spike_values_s8_params;

void EK_FN(spike_values_s8)(
    const ek_spike_values_s8_params *p,
    const int32_t *s,
    int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_VALUES_S8_H */
