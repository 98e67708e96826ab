/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Requantisation as float64 arithmetic does it, in integers: acc * factor rounded to float64, then
 * to the nearest integer, ties away from zero. factor is multiplier * 2^(shift - 53), multiplier 0
 * or in [2^52, 2^53), shift in -74...32.
 */
#ifndef EK_REQUANTIZE_FLOAT64_H
#define EK_REQUANTIZE_FLOAT64_H

#include "ek_common.h"

#define EK_FLOAT64_LIMIT ((uint32_t)1 << 30) /* results saturate here, zero points then fit */

/* magnitude * factor for a magnitude of at most 2^53, by a product of 106 bits. */
static uint32_t ek_float64_product(uint64_t magnitude, uint64_t multiplier, int32_t shift)
{
    const uint64_t half = (uint64_t)1 << 63;
    const uint64_t a0 = (uint32_t)magnitude;
    const uint64_t a1 = magnitude >> 32;
    const uint64_t m0 = (uint32_t)multiplier;
    const uint64_t m1 = multiplier >> 32;
    const uint64_t middle = (a0 * m0 >> 32) + (uint32_t)(a0 * m1) + (uint32_t)(a1 * m0);
    const uint64_t high = a1 * m1 + (a0 * m1 >> 32) + (a1 * m0 >> 32) + (middle >> 32);
    const uint64_t low = (middle << 32) | (uint32_t)(a0 * m0);
    const int32_t point = 53 - shift; /* binary digits behind the point, 21...127 */
    uint64_t whole;
    uint64_t fraction; /* in units of 2^-64; what lies below is not needed */
    uint64_t margin;

    if (point > 64) {
        whole = high >> (point - 64);
        fraction = (low >> (point - 64)) | (high << (128 - point));
    } else if (point == 64) {
        whole = high;
        fraction = low;
    } else {
        if (high >> point != 0) {
            return EK_FLOAT64_LIMIT;
        }
        whole = (high << (64 - point)) | (low >> point);
        fraction = low << (64 - point);
    }
    if (whole >= EK_FLOAT64_LIMIT) {
        return EK_FLOAT64_LIMIT;
    }
    fraction += half;
    whole += fraction < half ? 1 : 0;
    /* The float64 product keeps 53 digits: one that is below a tie by at most half a unit of its
     * last digit has been rounded up to the tie. */
    margin = whole == 0 ? (uint64_t)1 << 9 : (uint64_t)1 << 10;
    for (uint64_t digits = whole; digits != 0; digits >>= 1) {
        margin <<= 1;
    }
    return (uint32_t)whole + (~fraction < margin ? 1u : 0u);
}

static inline int32_t ek_requantize_float64(int64_t acc, int64_t multiplier, int32_t shift)
{
    const uint64_t most = (uint64_t)1 << 53; /* accumulators saturate here */
    uint64_t magnitude = acc < 0 ? 0u - (uint64_t)acc : (uint64_t)acc;
    const uint32_t leading = (uint32_t)((uint64_t)multiplier >> 22);
    const int32_t point = 31 - shift; /* binary digits of leading behind the point */
    uint32_t result;

    if (magnitude <= UINT32_MAX && point > 0 && point < 63) {
        /* The leading 31 digits of the multiplier decide unless a tie is very near. */
        const uint64_t product = magnitude * leading + ((uint64_t)1 << (point - 1));
        const uint64_t whole = product >> point;
        if (whole == (product + magnitude) >> point) {
            result = whole < EK_FLOAT64_LIMIT ? (uint32_t)whole : EK_FLOAT64_LIMIT;
            return acc < 0 ? -(int32_t)result : (int32_t)result;
        }
    }
    magnitude = magnitude < most ? magnitude : most;
    result = ek_float64_product(magnitude, (uint64_t)multiplier, shift);
    return acc < 0 ? -(int32_t)result : (int32_t)result;
}

#endif /* EK_REQUANTIZE_FLOAT64_H */
