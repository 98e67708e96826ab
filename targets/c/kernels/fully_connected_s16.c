/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fully_connected_s16.h"

#include "ek_dot_s16.h"
#include "ek_requantize_float64.h"

void EK_FN(fully_connected_s16)(
    const ek_fully_connected_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int64_t *bias,
    const int64_t *multiplier,
    const int8_t *shift,
    int16_t *y)
{
    for (int32_t row = 0; row < p->rows; ++row, x += p->depth) {
        const int8_t *w_output = w;
        for (int32_t output = 0; output < p->outputs;) {
            const int32_t count = p->outputs - output < 4 ? 1 : 4;
            int64_t sums[4] = {0, 0, 0, 0};

            if (count == 4) {
                ek_dot4_s16(x, w_output, p->depth, p->depth, sums);
            } else {
                sums[0] = ek_dot_s16(x, w_output, p->depth);
            }
            for (int32_t i = 0; i < count; ++i, ++output) {
                const int64_t sum = ek_add_wrap_s64(sums[i], bias == NULL ? 0 : bias[output]);
                const int32_t factor = p->factors == 1 ? 0 : output;
                const int32_t scaled =
                    ek_requantize_float64(sum, multiplier[factor], shift[factor]);
                *y++ = (int16_t)ek_clamp_s32(scaled, p->clamp_min, p->clamp_max);
            }
            w_output += count * p->depth;
        }
    }
}
