/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "current_dense_s16.h"

void EK_FN(current_dense_s16)(
    const ek_current_dense_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y)
{
    for (int32_t n = 0; n < p->batches; ++n) {
        const int8_t *group = w;
        for (int32_t g = 0; g < p->groups; ++g) {
            ek_current_sum_s16(x, group, p->inputs, p->outputs, acc, y);
            x += p->inputs;
            group += p->inputs * p->outputs;
            acc = acc == NULL ? NULL : acc + p->outputs;
            y += p->outputs;
        }
    }
}
