/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "add_s16.h"

void EK_FN(add_s16)(const ek_add_s16_params *p, const int16_t *a, const int16_t *b, int16_t *y)
{
    /* A copy: y could alias *p for all that the compiler knows. */
    const ek_sum_params quant = p->quant;
    const int32_t rows = ek_broadcast_rows(&p->walk);
    const int32_t length = p->walk.extent[EK_BROADCAST_LAST];
    const int32_t a_step = p->walk.a_step[EK_BROADCAST_LAST];
    const int32_t b_step = p->walk.b_step[EK_BROADCAST_LAST];
    ek_broadcast_cursor at;
    ek_broadcast_start(&at);

    for (int32_t row = 0; row < rows; ++row) {
        const int16_t *pa = a + at.a;
        const int16_t *pb = b + at.b;
        for (int32_t i = 0; i < length; ++i) {
            *y++ = (int16_t)ek_sum(&quant, *pa, *pb);
            pa += a_step;
            pb += b_step;
        }
        ek_broadcast_next(&p->walk, &at);
    }
}
