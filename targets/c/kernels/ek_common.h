/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Shared by every kernel: naming, fixed-point arithmetic, small helpers. C99, no libc beyond
 * stdint.h, stddef.h and string.h.
 */
#ifndef EK_COMMON_H
#define EK_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ek_config.h" /* EK_PREFIX: every external symbol begins with it */

#define EK_JOIN2(a, b) a##b
#define EK_JOIN(a, b) EK_JOIN2(a, b)
/* External name of a kernel: EK_FN(conv_2d_s8) is <prefix>ek_conv_2d_s8. */
#define EK_FN(name) EK_JOIN(EK_PREFIX, ek_##name)

/* What every kernel takes for granted and C99 leaves open: products of 16-bit values are computed
 * in int, negative values are shifted right arithmetically, and unsigned values that a signed type
 * cannot hold wrap into it. An array of negative size stops the build where one does not hold. */
typedef char ek_needs_int_of_32_bits[sizeof(int) >= sizeof(int32_t) ? 1 : -1];
typedef char ek_needs_arithmetic_shift[(int64_t)-3 >> 1 == -2 ? 1 : -1];
typedef char ek_needs_wrapping_casts[(int32_t)UINT32_MAX == -1 ? 1 : -1];

#if defined(__GNUC__)
#define EK_INFINITY __builtin_inff()
#else
#define EK_INFINITY (3.0e38f * 10.0f)
#endif

static inline int32_t ek_min_s32(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t ek_max_s32(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t ek_clamp_s32(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : (x > high ? high : x);
}

/* x * 2^exponent in two's complement, wrapping; exponent 0..31. */
static inline int32_t ek_shift_left_s32(int32_t x, int32_t exponent)
{
    return (int32_t)((uint32_t)x << exponent);
}

/* High 32 bits of 2ab, rounded to nearest, ties towards +infinity; (-2^31)^2 saturates. */
static inline int32_t ek_doubling_high_mul(int32_t a, int32_t b)
{
    if (a == INT32_MIN && b == INT32_MIN) {
        return INT32_MAX;
    }
    const int64_t product = (int64_t)a * b;
    /* Adding 2^30 and flooring equals the specification's sign-dependent nudge and truncation. */
    return (int32_t)((product + ((int64_t)1 << 30)) >> 31);
}

/* x / 2^exponent rounded to nearest, ties away from zero; exponent 0..31. */
static inline int32_t ek_rounding_right_shift(int32_t x, int32_t exponent)
{
    const int32_t mask = (int32_t)(((uint32_t)1 << exponent) - 1u);
    const int32_t remainder = x & mask;
    const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> exponent) + (remainder > threshold ? 1 : 0);
}

/* acc * multiplier * 2^(shift - 31), rounded after the product (ties towards +infinity) and after
 * the shift (ties away from zero). multiplier 0...2^31 - 1, so that the product cannot saturate;
 * shift -31...30; a left shift wraps. */
static inline int32_t ek_requantize_double(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t shifted = shift > 0 ? ek_shift_left_s32(acc, shift) : acc;
    const int64_t product = (int64_t)shifted * multiplier + ((int64_t)1 << 30);
    const int32_t high = (int32_t)(product >> 31);
    if (shift >= 0) {
        return high;
    }
    /* Rounding half up in two shifts cannot overflow; one less turns a negative half away from
     * zero, and high is above INT32_MIN. */
    return (((high + (high >> 31)) >> (-shift - 1)) + 1) >> 1;
}

/* acc * multiplier * 2^(shift - 31), rounded once, ties towards +infinity: what the specification
 * allows beside what its reference kernels do, and what kernels of coded weights do. */
static inline int32_t ek_requantize_single(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t total = 31 - shift;
    const int64_t product = (int64_t)acc * multiplier + ((int64_t)1 << (total - 1));
    return (int32_t)(product >> total);
}

/* Zero bits above the highest set bit; 32 for 0. */
static inline int32_t ek_leading_zeros(uint32_t x)
{
    int32_t zeros = 0;
    for (uint32_t bit = (uint32_t)1 << 31; bit != 0 && (x & bit) == 0; bit >>= 1) {
        ++zeros;
    }
    return zeros;
}

/* a + b in two's complement, wrapping. */
static inline int32_t ek_add_wrap_s32(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}
static inline int64_t ek_add_wrap_s64(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* acc * multiplier * 2^(shift - 15) for a multiplier of 15 bits, rounded once, ties towards
 * +infinity; shift at most 14. Wraps where the product needs more than 64 bits. */
static inline int32_t ek_requantize_wide(int64_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t total = 15 - shift;
    const uint64_t product =
        (uint64_t)acc * (uint64_t)multiplier + ((uint64_t)1 << (total - 1));
    return (int32_t)((int64_t)product >> total);
}

#endif /* EK_COMMON_H */
