/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "leaky_relu_s16.h"

void EK_FN(leaky_relu_s16)(const ek_leaky_relu_s16_params *p, const int16_t *x, int16_t *y)
{
    const int16_t *const end = x + p->count;
    while (x < end) {
        const int32_t value = *x++;
        int32_t result;
        if (value >= 0) {
            result = ek_requantize_double(value, p->identity_multiplier, p->identity_shift);
        } else {
            result = ek_requantize_double(value, p->slope_multiplier, p->slope_shift);
            result = p->negative ? -ek_max_s32(result, -INT32_MAX) : result;
        }
        *y++ = (int16_t)ek_clamp_s32(result, p->clamp_min, p->clamp_max);
    }
}
