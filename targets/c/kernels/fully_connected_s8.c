/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fully_connected_s8.h"

#include "ek_dot_s8.h"
#include "ek_requantize_float64.h"

void EK_FN(fully_connected_s8)(
    const ek_fully_connected_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *bias,
    const int64_t *multiplier,
    const int8_t *shift,
    int8_t *y)
{
    for (int32_t row = 0; row < p->rows; ++row, x += p->depth) {
        const int8_t *w_output = w;
        for (int32_t output = 0; output < p->outputs;) {
            const int32_t count = p->outputs - output < 4 ? 1 : 4;
            int32_t sums[4] = {0, 0, 0, 0};

            if (count == 4) {
                ek_dot4_s8(x, w_output, p->depth, p->depth, p->x_zero_point, sums);
            } else {
                sums[0] = ek_dot_s8(x, w_output, p->depth, p->x_zero_point);
            }
            for (int32_t i = 0; i < count; ++i, ++output) {
                const int32_t sum = ek_add_wrap_s32(sums[i], bias == NULL ? 0 : bias[output]);
                const int32_t factor = p->factors == 1 ? 0 : output;
                const int32_t scaled =
                    ek_requantize_float64(sum, multiplier[factor], shift[factor]);
                *y++ = (int8_t)ek_clamp_s32(
                    scaled + p->y_zero_point, p->clamp_min, p->clamp_max);
            }
            w_output += count * p->depth;
        }
    }
}
