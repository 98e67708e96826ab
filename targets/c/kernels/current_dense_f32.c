/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "current_dense_f32.h"

void EK_FN(current_dense_f32)(
    const ek_current_dense_f32_params *p,
    const float *x,
    const float *w,
    const float *acc,
    float *y)
{
    for (int32_t n = 0; n < p->batches; ++n) {
        const float *group = w;
        for (int32_t g = 0; g < p->groups; ++g) {
            ek_current_sum_f32(x, group, p->inputs, p->outputs, acc, y);
            x += p->inputs;
            group += p->inputs * p->outputs;
            acc = acc == NULL ? NULL : acc + p->outputs;
            y += p->outputs;
        }
    }
}
