/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Integer sum and difference between three quantisations: the add and sub kernels, and residual
 * sums fused into others.
 */
#ifndef EK_SUM_H
#define EK_SUM_H

#include "ek_common.h"

typedef struct {
    int32_t a_zero_point;
    int32_t b_zero_point;
    int32_t y_zero_point;
    int32_t left_shift; /* headroom of the operands: 20 for int8, 15 for int16 */
    int32_t a_multiplier;
    int32_t a_shift;
    int32_t b_multiplier;
    int32_t b_shift;
    int32_t y_multiplier;
    int32_t y_shift;
    int32_t clamp_min; /* bounds of the result */
    int32_t clamp_max;
} ek_sum_params;

static inline int32_t ek_sum_operand_a(const ek_sum_params *p, int32_t a)
{
    return ek_requantize_double(
        ek_shift_left_s32(a - p->a_zero_point, p->left_shift), p->a_multiplier, p->a_shift);
}

static inline int32_t ek_sum_operand_b(const ek_sum_params *p, int32_t b)
{
    return ek_requantize_double(
        ek_shift_left_s32(b - p->b_zero_point, p->left_shift), p->b_multiplier, p->b_shift);
}

static inline int32_t ek_sum_result(const ek_sum_params *p, int32_t sum)
{
    const int32_t zero = p->y_zero_point;
    const int32_t y = ek_requantize_double(sum, p->y_multiplier, p->y_shift);
    /* Clamped before the zero point is added, so that the addition cannot overflow. */
    return ek_clamp_s32(y, p->clamp_min - zero, p->clamp_max - zero) + zero;
}

/* a + b, clamped; the operands have the range of int8 or int16, as left_shift tells. */
static inline int32_t ek_sum(const ek_sum_params *p, int32_t a, int32_t b)
{
    return ek_sum_result(p, ek_sum_operand_a(p, a) + ek_sum_operand_b(p, b));
}

/* a - b, clamped. */
static inline int32_t ek_difference(const ek_sum_params *p, int32_t a, int32_t b)
{
    return ek_sum_result(p, ek_sum_operand_a(p, a) - ek_sum_operand_b(p, b));
}

#endif /* EK_SUM_H */
