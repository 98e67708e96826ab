/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "requantize_s32_s16.h"

void EK_FN(requantize_s32_s16)(const ek_requantize_s32_s16_params *p, const int32_t *x, int16_t *y)
{
    /* A copy: y could alias *p for all that the compiler knows. */
    const ek_requantize_params quant = *p;
    for (int32_t i = 0; i < quant.count; ++i) {
        y[i] = (int16_t)ek_requantize_element(&quant, x[i]);
    }
}
