/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Dot products of int16 by int8 values along contiguous memory, in int64.
 */
#ifndef EK_DOT_S16_H
#define EK_DOT_S16_H

#include "ek_common.h"

/* So many products fit int32: 511 * 2^15 * 2^7 < 2^31. Longer sums move to int64 in between. */
#define EK_DOT_S16_CHUNK 511

/* acc[j] += sum of x[i] * w[j * row + i] over i < count, for four rows of w. */
static inline void ek_dot4_s16(
    const int16_t *x, const int8_t *w, int32_t row, int32_t count, int64_t *acc)
{
    const int8_t *w1 = w + row;
    const int8_t *w2 = w1 + row;
    const int8_t *w3 = w2 + row;
    while (count > 0) {
        const int32_t chunk = ek_min_s32(count, EK_DOT_S16_CHUNK);
        int32_t acc0 = 0;
        int32_t acc1 = 0;
        int32_t acc2 = 0;
        int32_t acc3 = 0;
        for (const int16_t *end = x + chunk; x != end;) {
            const int32_t value = *x++;
            acc0 += value * *w++;
            acc1 += value * *w1++;
            acc2 += value * *w2++;
            acc3 += value * *w3++;
        }
        acc[0] += acc0;
        acc[1] += acc1;
        acc[2] += acc2;
        acc[3] += acc3;
        count -= chunk;
    }
}

/* The same for one row of w; returns what is to be added. */
static inline int64_t ek_dot_s16(const int16_t *x, const int8_t *w, int32_t count)
{
    int64_t acc = 0;
    while (count > 0) {
        const int32_t chunk = ek_min_s32(count, EK_DOT_S16_CHUNK);
        int32_t sum = 0;
        for (const int16_t *end = x + chunk; x != end;) {
            sum += *x++ * *w++;
        }
        acc += sum;
        count -= chunk;
    }
    return acc;
}

#endif /* EK_DOT_S16_H */
