/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fully_connected_f32.h"

#include "ek_dot_f32.h"

void EK_FN(fully_connected_f32)(
    const ek_fully_connected_f32_params *p,
    const float *x,
    const float *w,
    const float *bias,
    float *y)
{
    for (int32_t row = 0; row < p->rows; ++row, x += p->depth) {
        const float *w_output = w;
        for (int32_t output = 0; output < p->outputs;) {
            const int32_t count = p->outputs - output < 4 ? 1 : 4;
            float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};

            if (count == 4) {
                ek_dot4_f32(x, w_output, p->depth, p->depth, sums);
            } else {
                sums[0] = ek_dot_f32(x, w_output, p->depth, 0.0f);
            }
            for (int32_t i = 0; i < count; ++i, ++output) {
                const float sum = bias == NULL ? sums[i] : sums[i] + bias[output];
                *y++ = ek_clamp_f32(sum, p->clamp_min, p->clamp_max);
            }
            w_output += count * p->depth;
        }
    }
}
