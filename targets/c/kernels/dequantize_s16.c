/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "dequantize_s16.h"

void EK_FN(dequantize_s16)(const ek_dequantize_s16_params *p, const int16_t *x, float *y)
{
    for (int32_t i = 0; i < p->count; ++i) {
        y[i] = p->scale * (float)(x[i] - p->zero_point);
    }
}
