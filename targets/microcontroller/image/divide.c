/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Software float32 division, rounded to nearest even, subnormal numbers included.
 *
 * For cores without a floating-point unit under a compiler runtime whose own division rounds
 * subnormal quotients wrongly. The name is the one that the Arm run-time ABI prescribes.
 */
#include <stdint.h>

#define SIGN 0x80000000u
#define INFINITE 0x7F800000u
#define NOT_A_NUMBER 0x7FC00000u
#define FRACTION_BITS 23
#define FRACTION 0x007FFFFFu
#define HIDDEN 0x00800000u
#define BIAS 127
/* Quotient bits below the last kept one: a rounding bit; the remainder is the sticky one. */
#define EXTRA_BITS 1

float __aeabi_fdiv(float numerator, float denominator);

typedef union {
    float value;
    uint32_t bits;
} word;

static uint32_t bits_of(float value)
{
    return (word){.value = value}.bits;
}

static float float_of(uint32_t bits)
{
    return (word){.bits = bits}.value;
}

/* Significand with its highest bit at FRACTION_BITS; `*exponent` becomes the biased exponent. */
static uint32_t normalised(uint32_t magnitude, int32_t *exponent)
{
    uint32_t significand = magnitude & FRACTION;
    *exponent = (int32_t)(magnitude >> FRACTION_BITS);
    if (*exponent != 0) {
        return significand | HIDDEN;
    }
    *exponent = 1;
    while ((significand & HIDDEN) == 0) {
        significand <<= 1;
        --*exponent;
    }
    return significand;
}

float __aeabi_fdiv(float numerator, float denominator)
{
    const uint32_t sign = (bits_of(numerator) ^ bits_of(denominator)) & SIGN;
    const uint32_t a = bits_of(numerator) & ~SIGN;
    const uint32_t b = bits_of(denominator) & ~SIGN;
    if (a > INFINITE || b > INFINITE || (a == b && (a == 0 || a == INFINITE))) {
        return float_of(NOT_A_NUMBER);
    }
    if (a == INFINITE || b == 0) {
        return float_of(sign | INFINITE);
    }
    if (a == 0 || b == INFINITE) {
        return float_of(sign);
    }

    int32_t exponent_a;
    int32_t exponent_b;
    uint32_t remainder = normalised(a, &exponent_a);
    const uint32_t divisor = normalised(b, &exponent_b);
    int32_t exponent = exponent_a - exponent_b + BIAS;
    if (remainder < divisor) {
        remainder <<= 1;
        exponent--;
    }
    /* Now 1 <= remainder / divisor < 2: one quotient bit before the point, the rest behind it. */
    uint32_t quotient = 0;
    for (int bit = 0; bit <= FRACTION_BITS + EXTRA_BITS; bit++) {
        quotient <<= 1;
        if (remainder >= divisor) {
            remainder -= divisor;
            quotient |= 1;
        }
        remainder <<= 1;
    }
    uint32_t sticky = remainder != 0;

    if (exponent >= 2 * BIAS + 1) {
        return float_of(sign | INFINITE);
    }
    if (exponent < 1) {
        /* Subnormal: more bits fall below the last kept one. */
        const int32_t shift = 1 - exponent;
        if (shift > FRACTION_BITS + EXTRA_BITS + 1) {
            return float_of(sign);
        }
        sticky |= (quotient & ((1u << shift) - 1)) != 0;
        quotient >>= shift;
        exponent = 0;
    } else {
        quotient &= ~(HIDDEN << EXTRA_BITS);
    }
    uint32_t result = ((uint32_t)exponent << FRACTION_BITS) + (quotient >> EXTRA_BITS);
    const uint32_t half = quotient & 1;
    /* A carry out of the fraction raises the exponent, up to infinity: as it must. */
    result += half & (sticky | (result & 1));
    return float_of(sign | result);
}
