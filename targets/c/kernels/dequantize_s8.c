/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "dequantize_s8.h"

void EK_FN(dequantize_s8)(const ek_dequantize_s8_params *p, const int8_t *x, float *y)
{
    for (int32_t i = 0; i < p->count; ++i) {
        y[i] = p->scale * (float)(x[i] - p->zero_point);
    }
}
