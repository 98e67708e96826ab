/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Weighted sums of int16 samples, modulo 2^32: their order does not matter.
 */
#ifndef EK_CURRENT_S16_H
#define EK_CURRENT_S16_H

#include "ek_common.h"

/* sum + x[0] * w[0] + ... over the inputs. */
static inline uint32_t ek_current_dot_s16(
    uint32_t sum, const int16_t *x, const int8_t *w, int32_t inputs)
{
    for (int32_t i = 0; i < inputs; ++i) {
        sum += (uint32_t)(x[i] * w[i]);
    }
    return sum;
}

/* y[o] = acc[o] + sum of x[i] * w[o, i] over the inputs; acc may be NULL, for 0, or y. A sample that
 * drives many neurons alone, as the channels of a sensor do, is read once. */
static inline void ek_current_sum_s16(
    const int16_t *x,
    const int8_t *w,
    int32_t inputs,
    int32_t outputs,
    const int32_t *acc,
    int32_t *y)
{
    if (inputs == 1 && acc == NULL) {
        const int32_t sample = x[0];
        for (int32_t o = 0; o < outputs; ++o) {
            y[o] = sample * w[o];
        }
        return;
    }
    for (int32_t o = 0; o < outputs; ++o, w += inputs) {
        const uint32_t before = acc == NULL ? 0 : (uint32_t)acc[o];
        y[o] = (int32_t)ek_current_dot_s16(before, x, w, inputs);
    }
}

#endif /* EK_CURRENT_S16_H */
