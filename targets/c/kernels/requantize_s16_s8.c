/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "requantize_s16_s8.h"

void EK_FN(requantize_s16_s8)(const ek_requantize_s16_s8_params *p, const int16_t *x, int8_t *y)
{
    /* A copy: y could alias *p for all that the compiler knows. */
    const ek_requantize_params quant = *p;
    for (int32_t i = 0; i < quant.count; ++i) {
        y[i] = (int8_t)ek_requantize_element(&quant, x[i]);
    }
}
