/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Dot products of float32 values along contiguous memory. Every sum adds its products one after
 * the other, each product and each sum rounded: compile with -ffp-contract=off.
 */
#ifndef EK_DOT_F32_H
#define EK_DOT_F32_H

#include "ek_ieee.h"

/* acc[j] = (...(acc[j] + x[0] * w[j * row]) + x[1] * w[j * row + 1]) + ..., for four rows of w. */
static inline void ek_dot4_f32(
    const float *x, const float *w, int32_t row, int32_t count, float *acc)
{
    const float *w1 = w + row;
    const float *w2 = w1 + row;
    const float *w3 = w2 + row;
    float acc0 = acc[0];
    float acc1 = acc[1];
    float acc2 = acc[2];
    float acc3 = acc[3];
    for (const float *end = x + count; x != end;) {
        const float value = *x++;
        acc0 += value * *w++;
        acc1 += value * *w1++;
        acc2 += value * *w2++;
        acc3 += value * *w3++;
    }
    acc[0] = acc0;
    acc[1] = acc1;
    acc[2] = acc2;
    acc[3] = acc3;
}

/* The same for one row of w and the sum so far; returns the new sum. */
static inline float ek_dot_f32(const float *x, const float *w, int32_t count, float acc)
{
    for (const float *end = x + count; x != end;) {
        acc += *x++ * *w++;
    }
    return acc;
}

#endif /* EK_DOT_F32_H */
