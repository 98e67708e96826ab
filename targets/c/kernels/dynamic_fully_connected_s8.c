/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "dynamic_fully_connected_s8.h"

#include "ek_coded_dense.h"

void EK_FN(dynamic_fully_connected_s8)(
    const ek_dynamic_fully_connected_s8_params *p,
    const int8_t *x,
    const float *x_scale,
    const uint8_t *w,
    const uint8_t *factors,
    const int16_t *levels,
    const float *w_scale,
    const float *bias,
    float *y)
{
    const ek_coded weights = {&p->coding, w, factors, levels};

    for (int32_t row = 0; row < p->rows; ++row, x += p->depth, ++x_scale) {
        for (int32_t output = 0; output < p->outputs;) {
            ek_dense_rows rows;
            int64_t totals[EK_DENSE_ROWS];
            const int32_t count = ek_dense_next(output, p->outputs, &rows);

            ek_dense_totals(&weights, rows, x, p->depth, 0, totals);
            for (int32_t i = EK_DENSE_ROWS - count; i < EK_DENSE_ROWS; ++i, ++output) {
                const float scale = *x_scale * w_scale[p->scales == 1 ? 0 : output];
                const float product = (float)totals[i] * scale;
                *y++ = bias == NULL ? product : product + bias[output];
            }
        }
    }
}
