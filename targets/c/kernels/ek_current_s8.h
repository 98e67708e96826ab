/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Weighted sums of int8 samples, exact in their order.
 */
#ifndef EK_CURRENT_S8_H
#define EK_CURRENT_S8_H

#include "ek_dot_s8.h"

/* y[o] = acc[o] + sum of (x[i] - zero_point) * w[o, i] over the inputs; acc may be NULL, for 0, or y.
 * 65793 inputs at most, so that a sum without acc fits. */
static inline void ek_current_sum_s8(
    const int8_t *x,
    const int8_t *w,
    int32_t inputs,
    int32_t outputs,
    int32_t zero_point,
    const int32_t *acc,
    int32_t *y)
{
    for (int32_t o = 0; o < outputs;) {
        const int32_t count = outputs - o < 4 ? 1 : 4;
        int32_t sums[4] = {0, 0, 0, 0};

        if (count == 4) {
            ek_dot4_s8(x, w, inputs, inputs, zero_point, sums);
        } else {
            sums[0] = ek_dot_s8(x, w, inputs, zero_point);
        }
        for (int32_t i = 0; i < count; ++i, ++o) {
            y[o] = acc == NULL ? sums[i] : ek_add_wrap_s32(acc[o], sums[i]);
        }
        w += count * inputs;
    }
}

#endif /* EK_CURRENT_S8_H */
