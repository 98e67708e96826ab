/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "clip_s16.h"

void EK_FN(clip_s16)(const ek_clip_s16_params *p, const int16_t *x, int16_t *y)
{
    const int16_t *const end = x + p->count;
    const int32_t low = p->clamp_min;
    const int32_t high = p->clamp_max;
    while (x < end) {
        *y++ = (int16_t)ek_clamp_s32(*x++, low, high);
    }
}
