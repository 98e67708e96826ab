/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "layernorm_s8.h"

/* floor(sqrt(x)), x below 2^62: one bit of the root at a time. */
static uint64_t square_root(uint64_t x)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 60; bit != 0; bit >>= 2) {
        const uint64_t trial = root + bit;
        root >>= 1;
        if (x >= trial) {
            x -= trial;
            root += bit;
        }
    }
    return root;
}

/* min(floor(2^61 / x), 2^31 - 1), x in 2^30...2^31: bit by bit, without a library's division. */
static int32_t reciprocal(uint64_t x)
{
    const uint64_t part = x << 31;
    uint64_t rest = (uint64_t)1 << 61;
    uint32_t quotient = 0;
    for (int32_t bit = 31; bit >= 0; --bit) {
        quotient <<= 1;
        if (rest >= part) {
            rest -= part;
            quotient |= 1;
        }
        rest <<= 1;
    }
    return quotient > INT32_MAX ? INT32_MAX : (int32_t)quotient;
}

void EK_FN(layernorm_s8)(
    const ek_layernorm_s8_params *p, const int8_t *x, const int16_t *gamma, const int32_t *beta,
    int8_t *y)
{
    /* Clamped before the zero point is added, so that the addition cannot overflow. */
    const int32_t low = p->clamp_min - p->y_zero_point;
    const int32_t high = p->clamp_max - p->y_zero_point;
    for (int32_t row = 0; row < p->rows; ++row) {
        int32_t sum = 0;
        int32_t squares = 0;
        for (int32_t i = 0; i < p->length; ++i) {
            sum += x[i];
            squares += x[i] * x[i];
        }
        /* length^2 times the variance, exactly, in steps of 2^-14; then raised to 2^60...2^62. */
        const int64_t spread = (int64_t)p->length * squares - (int64_t)sum * sum;
        uint64_t variance = ((uint64_t)spread << 14) + (uint64_t)p->epsilon;
        int32_t shift = 44;
        while (variance < (uint64_t)1 << 60) {
            variance <<= 2;
            --shift;
        }
        const int32_t inverse = reciprocal(square_root(variance));
        const int64_t half = (int64_t)1 << (shift - 1);
        for (int32_t i = 0; i < p->length; ++i) {
            const int32_t difference = p->length * x[i] - sum;
            const int64_t wide = ((int64_t)difference * inverse + half) >> shift;
            int32_t value =
                wide > INT16_MAX ? INT16_MAX : (wide < -INT16_MAX ? -INT16_MAX : (int32_t)wide);
            if (gamma != NULL) {
                value *= gamma[i];
            }
            if (beta != NULL) {
                value = ek_add_wrap_s32(value, beta[i]);
            }
            value = ek_requantize_double(value, p->multiplier, p->shift);
            y[i] = (int8_t)(ek_clamp_s32(value, low, high) + p->y_zero_point);
        }
        x += p->length;
        y += p->length;
    }
}
