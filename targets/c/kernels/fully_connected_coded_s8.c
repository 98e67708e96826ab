/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fully_connected_coded_s8.h"

#include "ek_coded_dense.h"
#include "ek_requantize_float64.h"

void EK_FN(fully_connected_coded_s8)(
    const ek_fully_connected_coded_s8_params *p,
    const int8_t *x,
    const uint8_t *w,
    const uint8_t *factors,
    const int16_t *levels,
    const void *bias,
    const int64_t *multiplier,
    const int8_t *shift,
    int8_t *y)
{
    const ek_coded weights = {&p->coding, w, factors, levels};

    for (int32_t row = 0; row < p->rows; ++row, x += p->depth) {
        for (int32_t output = 0; output < p->outputs;) {
            ek_dense_rows rows;
            int64_t totals[EK_DENSE_ROWS];
            const int32_t count = ek_dense_next(output, p->outputs, &rows);

            ek_dense_totals(&weights, rows, x, p->depth, p->x_zero_point, totals);
            for (int32_t i = EK_DENSE_ROWS - count; i < EK_DENSE_ROWS; ++i, ++output) {
                const int32_t factor = p->factors == 1 ? 0 : output;
                const int64_t sum = totals[i] + ek_coded_bias(bias, p->int64_bias, output);
                const int32_t scaled =
                    ek_requantize_float64(sum, multiplier[factor], shift[factor]);
                *y++ = (int8_t)ek_clamp_s32(
                    scaled + p->y_zero_point, p->clamp_min, p->clamp_max);
            }
        }
    }
}
