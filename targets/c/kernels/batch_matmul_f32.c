/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "batch_matmul_f32.h"

/* sums[j] = sum of a * b over column j of four. */
static void batch_dot4_f32(
    const ek_batch_matmul_shape *s, const float *a, const float *b, float *sums)
{
    const int32_t column = s->b_column;
    const int32_t step = s->b_step;
    float sum0 = 0.0f;
    float sum1 = 0.0f;
    float sum2 = 0.0f;
    float sum3 = 0.0f;
    for (const float *end = a + s->depth; a != end; b += step) {
        const float value = *a++;
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

static float batch_dot1_f32(const ek_batch_matmul_shape *s, const float *a, const float *b)
{
    float sum = 0.0f;
    for (const float *end = a + s->depth; a != end; b += s->b_step) {
        sum += *a++ * *b;
    }
    return sum;
}

static float *batch_product_f32(
    const ek_batch_matmul_f32_params *p, const float *a, const float *b, float *y)
{
    const ek_batch_matmul_shape *s = &p->shape;
    for (int32_t row = 0; row < s->rows; ++row, a += s->depth) {
        const float *b_column = b;
        for (int32_t column = 0; column < s->columns;) {
            const int32_t count = s->columns - column < 4 ? 1 : 4;
            float sums[4];

            if (count == 4) {
                batch_dot4_f32(s, a, b_column, sums);
            } else {
                sums[0] = batch_dot1_f32(s, a, b_column);
            }
            for (int32_t i = 0; i < count; ++i) {
                *y++ = ek_clamp_f32(sums[i], p->clamp_min, p->clamp_max);
            }
            column += count;
            b_column += count * s->b_column;
        }
    }
    return y;
}

void EK_FN(batch_matmul_f32)(
    const ek_batch_matmul_f32_params *p, const float *a, const float *b, float *y)
{
    const ek_batch_matmul_shape *s = &p->shape;
    for (int32_t i = 0; i < s->batch[0]; ++i) {
        for (int32_t j = 0; j < s->batch[1]; ++j) {
            for (int32_t k = 0; k < s->batch[2]; ++k) {
                const int32_t *const as = s->a_batch;
                const int32_t *const bs = s->b_batch;
                y = batch_product_f32(
                    p,
                    a + i * as[0] + j * as[1] + k * as[2],
                    b + i * bs[0] + j * bs[1] + k * bs[2],
                    y);
            }
        }
    }
}
