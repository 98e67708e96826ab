/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "tanh_s16.h"

void EK_FN(tanh_s16)(
    const ek_tanh_s16_params *p, const int16_t *x, const int16_t *table, int16_t *y)
{
    const int16_t *const end = x + p->curve.count;
    while (x < end) {
        *y++ = (int16_t)ek_tanh_scaled_s16(table, ek_curve_rescale(&p->curve, *x++));
    }
}
