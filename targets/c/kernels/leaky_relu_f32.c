/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "leaky_relu_f32.h"

void EK_FN(leaky_relu_f32)(const ek_leaky_relu_f32_params *p, const float *x, float *y)
{
    const float *const end = x + p->count;
    while (x < end) {
        const float value = *x++;
        const float result = value > 0.0f ? value : value * p->alpha;
        *y++ = ek_clamp_f32(result, p->clamp_min, p->clamp_max);
    }
}
