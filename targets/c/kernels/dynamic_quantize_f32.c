/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "dynamic_quantize_f32.h"

/* Adding it rounds a float of up to 2^22 to an integer, halves to even. */
#define ROUNDER 0x1.8p+23f

void EK_FN(dynamic_quantize_f32)(
    const ek_dynamic_quantize_f32_params *p, const float *x, int8_t *y, float *scale)
{
    for (int32_t row = 0; row < p->rows; ++row) {
        float absmax = p->floor_absmax;
        for (int32_t i = 0; i < p->length; ++i) {
            const float magnitude = ek_abs_f32(x[i]);
            absmax = magnitude > absmax ? magnitude : absmax;
        }
        const float factor = 127.0f / absmax;
        for (int32_t i = 0; i < p->length; ++i) {
            float value = x[i] * factor;
            value = value >= -127.0f ? value : -127.0f;
            value = value <= 127.0f ? value : 127.0f;
            y[i] = (int8_t)(int32_t)((value + ROUNDER) - ROUNDER);
        }
        *scale++ = absmax / 127.0f;
        x += p->length;
        y += p->length;
    }
}
