/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "mul_f32.h"

void EK_FN(mul_f32)(const ek_mul_f32_params *p, const float *a, const float *b, float *y)
{
    const int32_t rows = ek_broadcast_rows(&p->walk);
    const int32_t length = p->walk.extent[EK_BROADCAST_LAST];
    const int32_t a_step = p->walk.a_step[EK_BROADCAST_LAST];
    const int32_t b_step = p->walk.b_step[EK_BROADCAST_LAST];
    ek_broadcast_cursor at;
    ek_broadcast_start(&at);

    for (int32_t row = 0; row < rows; ++row) {
        const float *pa = a + at.a;
        const float *pb = b + at.b;
        for (int32_t i = 0; i < length; ++i) {
            *y++ = ek_clamp_f32(*pa * *pb, p->clamp_min, p->clamp_max);
            pa += a_step;
            pb += b_step;
        }
        ek_broadcast_next(&p->walk, &at);
    }
}
