/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_count_s32.h"

void EK_FN(spike_count_s32)(
    const ek_spike_count_s32_params *p,
    const int32_t *s,
    const int32_t *count,
    int32_t *y)
{
    for (int32_t n = 0; n < p->batches; ++n, s += p->set_words) {
        for (int32_t i = 0; i < p->neurons; ++i) {
            const int32_t before = *count++;
            const int32_t spike = (int32_t)((uint32_t)s[i >> 5] >> (i & 31) & 1u);
            *y++ = before == INT32_MAX ? before : before + spike;
        }
    }
}
