/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "softmax_s16.h"

/* The table at an int16: 9 bits of index, 7 bits between entries. */
static int32_t interpolate(const int16_t *table, int32_t x)
{
    const int16_t *entry = table + 256 + (x >> 7);
    return entry[0] + (((entry[1] - entry[0]) * (x & 127) + 64) >> 7);
}

void EK_FN(softmax_s16)(
    const ek_softmax_s16_params *p, const int16_t *x, const int16_t *exp_table, const int16_t
    *reciprocal_table, int16_t *y)
{
    for (int32_t row = 0; row < p->rows; ++row) {
        int32_t highest = x[0];
        for (int32_t i = 1; i < p->length; ++i) {
            highest = ek_max_s32(highest, x[i]);
        }
        /* 15 fractional bits. */
        int32_t sum = 0;
        for (int32_t i = 0; i < p->length; ++i) {
            const int32_t scaled = ek_requantize_double(x[i] - highest, p->multiplier, p->shift);
            const int32_t power =
                interpolate(exp_table, ek_clamp_s32(scaled, INT16_MIN - INT16_MAX, 0) + INT16_MAX);
            y[i] = (int16_t)power;
            sum += power;
        }
        /* The sum as (1 + fraction) * 2^n: 16 bits of the fraction, recentred to int16. */
        const int32_t headroom = ek_leading_zeros((uint32_t)sum) - 1;
        const uint32_t leading = (((uint32_t)sum << headroom) + ((uint32_t)1 << 13)) >> 14;
        const int32_t centred =
            ek_clamp_s32((int32_t)leading - ((int32_t)3 << 15), INT16_MIN, INT16_MAX);
        const int32_t inverse = interpolate(reciprocal_table, centred);
        const int32_t right_shift = 30 - headroom;
        const int32_t half = (int32_t)1 << (right_shift - 1);
        for (int32_t i = 0; i < p->length; ++i) {
            const int32_t share = (y[i] * inverse + half) >> right_shift;
            y[i] = (int16_t)ek_clamp_s32(share, 0, INT16_MAX);
        }
        x += p->length;
        y += p->length;
    }
}
