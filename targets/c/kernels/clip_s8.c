/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "clip_s8.h"

void EK_FN(clip_s8)(const ek_clip_s8_params *p, const int8_t *x, int8_t *y)
{
    const int8_t *const end = x + p->count;
    const int32_t low = p->clamp_min;
    const int32_t high = p->clamp_max;
    while (x < end) {
        *y++ = (int8_t)ek_clamp_s32(*x++, low, high);
    }
}
