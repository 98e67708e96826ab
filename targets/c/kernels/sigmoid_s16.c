/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "sigmoid_s16.h"

void EK_FN(sigmoid_s16)(
    const ek_sigmoid_s16_params *p, const int16_t *x, const int16_t *table, int16_t *y)
{
    const int16_t *const end = x + p->curve.count;
    while (x < end) {
        const int32_t scaled = ek_curve_rescale(&p->curve, *x++);
        const int32_t magnitude = scaled < 0 ? -scaled : scaled;
        const int32_t above = ek_curve_interpolate(table, magnitude, 9, 32766);
        const int32_t rounded = scaled >= 0 ? above + 512 : 511 - above;
        *y++ = (int16_t)(16384 + (rounded >> 10));
    }
}
