/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The weighted sums of a recurrent layer's gates in float32, and where its steps lie.
 */
#ifndef EK_GATES_F32_H
#define EK_GATES_F32_H

#include "ek_dot_f32.h"
#include "ek_math_f32.h"

/* sums[j] = (0 or sums[j]) + sum of x[k] * w[j * count + k], added in the order of k. */
static inline void ek_gate_sums_f32(
    const float *x, const float *w, int32_t count, int32_t rows, int32_t carry_on, float *sums)
{
    for (int32_t row = 0; row < rows;) {
        const int32_t block = rows - row < 4 ? 1 : 4;
        if (!carry_on) {
            memset(sums, 0, (size_t)block * sizeof *sums);
        }
        if (block == 4) {
            ek_dot4_f32(x, w, count, count, sums);
        } else {
            sums[0] = ek_dot_f32(x, w, count, sums[0]);
        }
        row += block;
        sums += block;
        w += block * count;
    }
}

static inline void ek_gate_bias_f32(const float *bias, int32_t rows, float *sums)
{
    if (bias == NULL) {
        return;
    }
    for (const float *end = bias + rows; bias != end;) {
        *sums++ += *bias++;
    }
}

#endif /* EK_GATES_F32_H */
