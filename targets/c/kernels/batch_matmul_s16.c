/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "batch_matmul_s16.h"

/* sums[j] = sum of a * b over column j of four. */
static void batch_dot4_s16(
    const ek_batch_matmul_shape *s, const int16_t *a, const int16_t *b, int64_t *sums)
{
    const int32_t column = s->b_column;
    const int32_t step = s->b_step;
    int64_t sum0 = 0;
    int64_t sum1 = 0;
    int64_t sum2 = 0;
    int64_t sum3 = 0;
    for (const int16_t *end = a + s->depth; a != end; b += step) {
        const int32_t value = *a++;
        sum0 += value * b[0];
        sum1 += value * b[column];
        sum2 += value * b[2 * column];
        sum3 += value * b[3 * column];
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

static int64_t batch_dot1_s16(const ek_batch_matmul_shape *s, const int16_t *a, const int16_t *b)
{
    int64_t sum = 0;
    for (const int16_t *end = a + s->depth; a != end; b += s->b_step) {
        sum += *a++ * *b;
    }
    return sum;
}

static int16_t *batch_product_s16(
    const ek_batch_matmul_s16_params *p, const int16_t *a, const int16_t *b, int16_t *y)
{
    const ek_batch_matmul_shape *s = &p->shape;
    for (int32_t row = 0; row < s->rows; ++row, a += s->depth) {
        const int16_t *b_column = b;
        for (int32_t column = 0; column < s->columns;) {
            const int32_t count = s->columns - column < 4 ? 1 : 4;
            int64_t sums[4];

            if (count == 4) {
                batch_dot4_s16(s, a, b_column, sums);
            } else {
                sums[0] = batch_dot1_s16(s, a, b_column);
            }
            for (int32_t i = 0; i < count; ++i) {
                const int32_t scaled = ek_requantize_wide(sums[i], p->multiplier, p->shift);
                *y++ = (int16_t)ek_clamp_s32(scaled, p->clamp_min, p->clamp_max);
            }
            column += count;
            b_column += count * s->b_column;
        }
    }
    return y;
}

void EK_FN(batch_matmul_s16)(
    const ek_batch_matmul_s16_params *p, const int16_t *a, const int16_t *b, int16_t *y)
{
    const ek_batch_matmul_shape *s = &p->shape;
    for (int32_t i = 0; i < s->batch[0]; ++i) {
        for (int32_t j = 0; j < s->batch[1]; ++j) {
            for (int32_t k = 0; k < s->batch[2]; ++k) {
                const int32_t *const as = s->a_batch;
                const int32_t *const bs = s->b_batch;
                y = batch_product_s16(
                    p,
                    a + i * as[0] + j * as[1] + k * as[2],
                    b + i * bs[0] + j * bs[1] + k * bs[2],
                    y);
            }
        }
    }
}
