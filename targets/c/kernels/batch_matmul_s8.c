/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "batch_matmul_s8.h"

/* sums[j] = sum of (a - zero_point) * b over column j of four; returns the sum of a - zero_point,
 * from which the zero point of b follows. */
static int32_t batch_dot4_s8(
    const ek_batch_matmul_shape *s,
    const int8_t *a,
    const int8_t *b,
    int32_t zero_point,
    int32_t *sums)
{
    const int32_t column = s->b_column;
    const int32_t step = s->b_step;
    int32_t total = 0;
    int32_t sum0 = 0;
    int32_t sum1 = 0;
    int32_t sum2 = 0;
    int32_t sum3 = 0;
    for (const int8_t *end = a + s->depth; a != end; b += step) {
        const int32_t value = *a++ - zero_point;
        total += value;
        sum0 += value * b[0];
        sum1 += value * b[column];
        sum2 += value * b[2 * column];
        sum3 += value * b[3 * column];
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
    return total;
}

/* The same for one column. */
static int32_t batch_dot1_s8(
    const ek_batch_matmul_shape *s,
    const int8_t *a,
    const int8_t *b,
    int32_t zero_point,
    int32_t *sums)
{
    int32_t total = 0;
    int32_t sum = 0;
    for (const int8_t *end = a + s->depth; a != end; b += s->b_step) {
        const int32_t value = *a++ - zero_point;
        total += value;
        sum += value * *b;
    }
    sums[0] = sum;
    return total;
}

static int8_t *batch_product_s8(
    const ek_batch_matmul_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    const ek_batch_matmul_shape *s = &p->shape;
    for (int32_t row = 0; row < s->rows; ++row, a += s->depth) {
        const int8_t *b_column = b;
        for (int32_t column = 0; column < s->columns;) {
            const int32_t count = s->columns - column < 4 ? 1 : 4;
            int32_t sums[4];
            const int32_t total = count == 4 ? batch_dot4_s8(s, a, b_column, p->a_zero_point, sums)
                                             : batch_dot1_s8(s, a, b_column, p->a_zero_point, sums);

            for (int32_t i = 0; i < count; ++i) {
                const int32_t scaled = ek_requantize_double(
                    sums[i] - p->b_zero_point * total, p->multiplier, p->shift);
                *y++ = (int8_t)ek_clamp_s32(
                    ek_add_wrap_s32(scaled, p->y_zero_point), p->clamp_min, p->clamp_max);
            }
            column += count;
            b_column += count * s->b_column;
        }
    }
    return y;
}

void EK_FN(batch_matmul_s8)(
    const ek_batch_matmul_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    const ek_batch_matmul_shape *s = &p->shape;
    for (int32_t i = 0; i < s->batch[0]; ++i) {
        for (int32_t j = 0; j < s->batch[1]; ++j) {
            for (int32_t k = 0; k < s->batch[2]; ++k) {
                const int32_t *const as = s->a_batch;
                const int32_t *const bs = s->b_batch;
                y = batch_product_s8(
                    p,
                    a + i * as[0] + j * as[1] + k * as[2],
                    b + i * bs[0] + j * bs[1] + k * bs[2],
                    y);
            }
        }
    }
}
