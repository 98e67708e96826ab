/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sigmoid and tanh of int16: the upper half of a sigmoid, interpolated.
 */
#ifndef EK_CURVE_S16_H
#define EK_CURVE_S16_H

#include "ek_common.h"

typedef struct {
    int32_t count;       /* elements */
    int32_t multiplier;  /* 1...65535: x * multiplier / 2^right_shift has steps of 1/12288 */
    int32_t right_shift; /* 0...31 */
} ek_curve_s16;

static inline int32_t ek_curve_rescale(const ek_curve_s16 *curve, int32_t x)
{
    const int32_t half = ek_shift_left_s32(1, curve->right_shift) >> 1;
    return (x * curve->multiplier + half) >> curve->right_shift;
}

/* table at magnitude / 2^bits with bits more bits; beyond * 2^bits behind the last entry. */
static inline int32_t ek_curve_interpolate(
    const int16_t *table, int32_t magnitude, int32_t bits, int32_t beyond)
{
    const int32_t index = magnitude >> bits;
    if (index >= 255) {
        return ek_shift_left_s32(beyond, bits);
    }
    const int32_t fraction = magnitude & ((1 << bits) - 1);
    const int32_t slope = table[index + 1] - table[index];
    return ek_shift_left_s32(table[index], bits) + fraction * slope;
}

/* sigmoid and tanh of scaled / 12288, in steps of 1/32768. */
static inline int32_t ek_sigmoid_scaled_s16(const int16_t *table, int32_t scaled)
{
    const int32_t magnitude = scaled < 0 ? -scaled : scaled;
    const int32_t above = ek_curve_interpolate(table, magnitude, 9, 32766);
    const int32_t rounded = scaled >= 0 ? above + 512 : 511 - above;
    return 16384 + (rounded >> 10);
}
static inline int32_t ek_tanh_scaled_s16(const int16_t *table, int32_t scaled)
{
    const int32_t magnitude = scaled < 0 ? -scaled : scaled;
    const int32_t above = ek_curve_interpolate(table, magnitude, 8, 32767);
    const int32_t rounded = scaled >= 0 ? above + 128 : 127 - above;
    return rounded >> 8;
}

#endif /* EK_CURVE_S16_H */
