/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "softmax_s8.h"

/* exp(-2^k) in 31 fractional bits, k = -2...4. */
static const int32_t exp_of_minus_power[7] = {
    1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242,
};

/* exp(a) for a in [-1/4, 0), both in 31 fractional bits: a Taylor polynomial about -1/8. */
static int32_t exp_near_minus_eighth(int32_t a)
{
    const int32_t centre = 1895147668; /* exp(-1/8) */
    const int32_t third = 715827883;   /* 1/3 */
    const int32_t x = a + ((int32_t)1 << 28);
    const int32_t x2 = ek_doubling_high_mul(x, x);
    const int32_t x3 = ek_doubling_high_mul(x2, x);
    const int32_t x4 = ek_doubling_high_mul(x2, x2);
    const int32_t cubic = ek_doubling_high_mul(ek_rounding_right_shift(x4, 2) + x3, third);
    const int32_t tail = ek_rounding_right_shift(cubic + x2, 1);
    return centre + ek_doubling_high_mul(centre, x + tail);
}

/* exp(x / 2^26) in 31 fractional bits, x <= 0: quarters by their bits, the rest by polynomial. */
static int32_t exp_on_negative(int32_t x)
{
    const int32_t quarter = (int32_t)1 << 24;
    const int32_t distance = (x & (quarter - 1)) - quarter;
    const int32_t quarters = (distance - x) >> 24;
    int32_t result = exp_near_minus_eighth(ek_shift_left_s32(distance, 5));
    for (int32_t bit = 0; bit < 7; ++bit) {
        if ((quarters >> bit) & 1) {
            result = ek_doubling_high_mul(result, exp_of_minus_power[bit]);
        }
    }
    return x == 0 ? INT32_MAX : result;
}

static int32_t shift_left_saturating(int32_t x, int32_t exponent)
{
    const int64_t wide = (int64_t)x * ((int32_t)1 << exponent);
    return (int32_t)(wide > INT32_MAX ? INT32_MAX : (wide < INT32_MIN ? INT32_MIN : wide));
}

/* 1 / (1 + x), x in [0, 1), both in 31 fractional bits: Newton's iteration on (1 + x) / 2. */
static int32_t reciprocal_of_one_plus(int32_t x)
{
    const int32_t half = (int32_t)(((uint32_t)x + ((uint32_t)1 << 31)) >> 1);
    /* 29 fractional bits from here on; 48/17 - 32/17 * half is the start. */
    int32_t y = 1515870810 + ek_doubling_high_mul(half, -1010580540);
    for (int32_t step = 0; step < 3; ++step) {
        const int32_t error = ((int32_t)1 << 29) - ek_doubling_high_mul(half, y);
        y += shift_left_saturating(ek_doubling_high_mul(y, error), 2);
    }
    return shift_left_saturating(y, 1);
}

static int32_t power(const ek_softmax_s8_params *p, int32_t difference)
{
    return exp_on_negative(
        ek_doubling_high_mul(ek_shift_left_s32(difference, p->shift), p->multiplier));
}

void EK_FN(softmax_s8)(const ek_softmax_s8_params *p, const int8_t *x, int8_t *y)
{
    for (int32_t row = 0; row < p->rows; ++row) {
        int32_t highest = x[0];
        for (int32_t i = 1; i < p->length; ++i) {
            highest = ek_max_s32(highest, x[i]);
        }
        /* 19 fractional bits. */
        int32_t sum = 0;
        for (int32_t i = 0; i < p->length; ++i) {
            const int32_t difference = x[i] - highest;
            if (difference >= p->diff_min) {
                sum += ek_rounding_right_shift(power(p, difference), 12);
            }
        }
        /* The sum as (1 + fraction) * 2^(12 - headroom). From 512 on, every share rounds to 0. */
        const int32_t headroom = ek_leading_zeros((uint32_t)sum);
        const uint32_t leading = (uint32_t)sum << headroom;
        const int32_t inverse = reciprocal_of_one_plus((int32_t)(leading - ((uint32_t)1 << 31)));
        const int32_t right_shift = 35 - headroom;
        for (int32_t i = 0; i < p->length; ++i) {
            const int32_t difference = x[i] - highest;
            int32_t share = INT8_MIN;
            if (difference >= p->diff_min && right_shift <= 31) {
                share += ek_rounding_right_shift(
                    ek_doubling_high_mul(inverse, power(p, difference)), right_shift);
            }
            y[i] = (int8_t)ek_min_s32(share, INT8_MAX);
        }
        x += p->length;
        y += p->length;
    }
}
