/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "mul_s8.h"

void EK_FN(mul_s8)(const ek_mul_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    /* A copy: y could alias *p for all that the compiler knows. */
    const ek_mul_s8_params quant = *p;
    /* Clamped before the zero point is added, so that the addition cannot overflow. */
    const int32_t low = quant.clamp_min - quant.y_zero_point;
    const int32_t high = quant.clamp_max - quant.y_zero_point;
    const int32_t rows = ek_broadcast_rows(&p->walk);
    const int32_t length = p->walk.extent[EK_BROADCAST_LAST];
    const int32_t a_step = p->walk.a_step[EK_BROADCAST_LAST];
    const int32_t b_step = p->walk.b_step[EK_BROADCAST_LAST];
    ek_broadcast_cursor at;
    ek_broadcast_start(&at);

    for (int32_t row = 0; row < rows; ++row) {
        const int8_t *pa = a + at.a;
        const int8_t *pb = b + at.b;
        for (int32_t i = 0; i < length; ++i) {
            const int32_t product = (*pa - quant.a_zero_point) * (*pb - quant.b_zero_point);
            const int32_t value = ek_requantize_double(product, quant.multiplier, quant.shift);
            *y++ = (int8_t)(ek_clamp_s32(value, low, high) + quant.y_zero_point);
            pa += a_step;
            pb += b_step;
        }
        ek_broadcast_next(&p->walk, &at);
    }
}
