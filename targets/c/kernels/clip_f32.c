/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "clip_f32.h"

void EK_FN(clip_f32)(const ek_clip_f32_params *p, const float *x, float *y)
{
    const float *const end = x + p->count;
    const float low = p->clamp_min;
    const float high = p->clamp_max;
    while (x < end) {
        *y++ = ek_clamp_f32(*x++, low, high);
    }
}
