/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Spikes as float32 numbers.
 */
#ifndef EK_SPIKE_EXPAND_F32_H
#define EK_SPIKE_EXPAND_F32_H

#include "ek_ieee.h"
#include "ek_spike.h"

/* x[i] = 1 where neuron first + i is active, else 0, for i < count. */
static inline void ek_spike_expand_f32(const int32_t *s, int32_t first, int32_t count, float *x)
{
    for (int32_t i = first; i < first + count; ++i) {
        *x++ = ((uint32_t)s[i >> 5] >> (i & 31) & 1u) != 0 ? 1.0f : 0.0f;
    }
}

#endif /* EK_SPIKE_EXPAND_F32_H */
