/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Weighted sums of float32 samples, exact in their order.
 */
#ifndef EK_CURRENT_F32_H
#define EK_CURRENT_F32_H

#include "ek_dot_f32.h"

/* y[o] = (...((acc[o] + 0) + x[0] * w[o, 0]) + x[1] * w[o, 1]) + ...; acc may be NULL, for 0, or y. */
static inline void ek_current_sum_f32(
    const float *x, const float *w, int32_t inputs, int32_t outputs, const float *acc, float *y)
{
    for (int32_t o = 0; o < outputs;) {
        const int32_t count = outputs - o < 4 ? 1 : 4;
        float sums[4];

        for (int32_t i = 0; i < count; ++i) {
            sums[i] = acc == NULL ? 0.0f : acc[o + i] + 0.0f;
        }
        if (count == 4) {
            ek_dot4_f32(x, w, inputs, inputs, sums);
        } else {
            sums[0] = ek_dot_f32(x, w, inputs, sums[0]);
        }
        for (int32_t i = 0; i < count; ++i) {
            y[o++] = sums[i];
        }
        w += count * inputs;
    }
}

#endif /* EK_CURRENT_F32_H */
