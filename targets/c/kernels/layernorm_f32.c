/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "layernorm_f32.h"

void EK_FN(layernorm_f32)(
    const ek_layernorm_f32_params *p, const float *x, const float *gamma, const float *beta, float
    *y)
{
    const float count = (float)p->length;
    for (int32_t row = 0; row < p->rows; ++row) {
        float sum = 0.0f;
        for (int32_t i = 0; i < p->length; ++i) {
            sum += x[i];
        }
        const float mean = sum / count;
        float squares = 0.0f;
        for (int32_t i = 0; i < p->length; ++i) {
            const float difference = x[i] - mean;
            squares += difference * difference;
        }
        const float factor = ek_rsqrt_f32(squares / count + p->epsilon);
        for (int32_t i = 0; i < p->length; ++i) {
            float value = (x[i] - mean) * factor;
            if (gamma != NULL) {
                value = value * gamma[i];
            }
            if (beta != NULL) {
                value = value + beta[i];
            }
            y[i] = ek_clamp_f32(value, p->clamp_min, p->clamp_max);
        }
        x += p->length;
        y += p->length;
    }
}
