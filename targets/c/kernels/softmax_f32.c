/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "softmax_f32.h"

void EK_FN(softmax_f32)(const ek_softmax_f32_params *p, const float *x, float *y)
{
    for (int32_t row = 0; row < p->rows; ++row) {
        float highest = x[0];
        for (int32_t i = 1; i < p->length; ++i) {
            highest = x[i] > highest ? x[i] : highest;
        }
        float sum = 0.0f;
        for (int32_t i = 0; i < p->length; ++i) {
            const float power = ek_exp_f32((x[i] - highest) * p->beta);
            y[i] = power;
            sum += power;
        }
        for (int32_t i = 0; i < p->length; ++i) {
            y[i] = y[i] / sum;
        }
        x += p->length;
        y += p->length;
    }
}
