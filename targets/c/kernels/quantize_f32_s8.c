/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "quantize_f32_s8.h"

/* Quotients beyond this saturate in any case; within it they convert exactly. */
#define QUANTIZE_LIMIT_S8 0x1p+24f

void EK_FN(quantize_f32_s8)(const ek_quantize_f32_s8_params *p, const float *x, int8_t *y)
{
    const float scale = p->scale;
    const int32_t zero_point = p->zero_point;
    const int32_t count = p->count;
    for (int32_t i = 0; i < count; ++i) {
        float quotient = x[i] / scale;
        quotient = quotient >= -QUANTIZE_LIMIT_S8 ? quotient : -QUANTIZE_LIMIT_S8;
        quotient = quotient <= QUANTIZE_LIMIT_S8 ? quotient : QUANTIZE_LIMIT_S8;
        int32_t nearest = (int32_t)quotient;
        const float rest = quotient - (float)nearest;
        nearest += rest >= 0.5f ? 1 : 0;
        nearest -= rest <= -0.5f ? 1 : 0;
        y[i] = (int8_t)ek_clamp_s32(nearest + zero_point, INT8_MIN, INT8_MAX);
    }
}
