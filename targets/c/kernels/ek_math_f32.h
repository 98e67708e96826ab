/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * exp, sigmoid, tanh and reciprocal square root in single precision, without a mathematics library.
 * Step by step the same as edgekit's NumPy functions of these names, which document the errors, so
 * the bits are the same too; that needs plain IEEE arithmetic: no contraction into fused
 * multiply-adds, no wider intermediate results.
 */
#ifndef EK_MATH_F32_H
#define EK_MATH_F32_H

#include "ek_ieee.h"

static inline float ek_abs_f32(float x) { return x < 0.0f ? -x : x; }

/* A union, since C99 defines what it reads and no freestanding compiler makes it a call. */
typedef union {
    int32_t bits;
    float value;
} ek_float_bits;

static inline float ek_float_of_bits(int32_t bits)
{
    ek_float_bits both;
    both.bits = bits;
    return both.value;
}

static inline int32_t ek_bits_of_float(float value)
{
    ek_float_bits both;
    both.value = value;
    return both.bits;
}

/* 2^exponent, exponent -126...127. */
static inline float ek_power_of_two_f32(int32_t exponent)
{
    return ek_float_of_bits(ek_shift_left_s32(exponent + 127, 23));
}

/* e^x; 0 below -87.33654, infinity above 88.72283. */
static inline float ek_exp_f32(float x)
{
    if (x > 0x1.62e42ep+6f) {
        return EK_INFINITY;
    }
    if (!(x >= -0x1.5d589ep+6f)) {
        return x == x ? 0.0f : x;
    }
    const float turns = x * 0x1.715476p+0f;
    const int32_t exponent = (int32_t)(turns + (turns < 0.0f ? -0.5f : 0.5f));
    const float count = (float)exponent;
    /* x less a multiple of ln 2, in two parts: the product with the first, of 9 bits, is exact. */
    const float r = (x - count * 0x1.63p-1f) - count * -0x1.bd0106p-13f;
    float value = 0x1.6a21acp-10f;
    value = value * r + 0x1.123b6ap-7f;
    value = value * r + 0x1.5558fap-5f;
    value = value * r + 0x1.555490p-3f;
    value = value * r + 0x1.fffffcp-2f;
    value = value * (r * r) + r + 1.0f;
    /* In two factors: 2^128 is no float, but the largest results need it. */
    const int32_t first = exponent >> 1;
    return value * ek_power_of_two_f32(first) * ek_power_of_two_f32(exponent - first);
}

/* 1 / (1 + e^-x). */
static inline float ek_sigmoid_f32(float x) { return 1.0f / (1.0f + ek_exp_f32(-x)); }

static inline float ek_tanh_f32(float x)
{
    const float magnitude = ek_abs_f32(x);
    if (magnitude < 0.625f) {
        const float square = x * x;
        float value = 0x1.18e1dcp-9f;
        value = value * square + -0x1.0bf4fcp-7f;
        value = value * square + 0x1.638b58p-6f;
        value = value * square + -0x1.b9ee90p-5f;
        value = value * square + 0x1.111066p-3f;
        value = value * square + -0x1.555554p-2f;
        return value * square * x + x;
    }
    const float far = 1.0f - 2.0f / (ek_exp_f32(magnitude + magnitude) + 1.0f);
    return x < 0.0f ? -far : far;
}

/* 1 / sqrt(x), x in 2^-100...2^100. */
static inline float ek_rsqrt_f32(float x)
{
    const float half = x * 0.5f;
    float y = ek_float_of_bits(0x5f3759df - (ek_bits_of_float(x) >> 1));
    for (int32_t step = 0; step < 3; ++step) {
        y = y + y * (0.5f - half * y * y);
    }
    return y;
}

#endif /* EK_MATH_F32_H */
