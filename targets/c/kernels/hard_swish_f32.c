/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "hard_swish_f32.h"

void EK_FN(hard_swish_f32)(const ek_hard_swish_f32_params *p, const float *x, float *y)
{
    const float *const end = x + p->count;
    while (x < end) {
        const float value = *x++;
        const float gate = ek_clamp_f32(value + 3.0f, 0.0f, 6.0f);
        *y++ = ek_clamp_f32(value * gate / 6.0f, p->clamp_min, p->clamp_max);
    }
}
