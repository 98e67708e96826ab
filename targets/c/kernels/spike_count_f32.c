/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_count_f32.h"

void EK_FN(spike_count_f32)(
    const ek_spike_count_f32_params *p,
    const int32_t *s,
    const float *count,
    float *y)
{
    for (int32_t n = 0; n < p->batches; ++n, s += p->set_words) {
        for (int32_t i = 0; i < p->neurons; ++i) {
            const uint32_t spike = (uint32_t)s[i >> 5] >> (i & 31) & 1u;
            *y++ = *count++ + (spike != 0 ? 1.0f : 0.0f);
        }
    }
}
