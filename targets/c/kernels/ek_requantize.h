/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * From one quantisation to another: what the requantize kernels have in common.
 */
#ifndef EK_REQUANTIZE_H
#define EK_REQUANTIZE_H

#include "ek_common.h"

typedef struct {
    int32_t count; /* elements */
    int32_t x_zero_point;
    int32_t y_zero_point;
    int32_t multiplier; /* ratio of the scales */
    int32_t shift;
    int32_t clamp_min; /* bounds of y */
    int32_t clamp_max;
} ek_requantize_params;

/* The difference wraps, which only int32 operands can come to; the sum saturates. */
static inline int32_t ek_requantize_element(const ek_requantize_params *p, int32_t x)
{
    const int32_t difference = (int32_t)((uint32_t)x - (uint32_t)p->x_zero_point);
    const int32_t scaled = ek_requantize_double(difference, p->multiplier, p->shift);
    const int64_t y = (int64_t)scaled + p->y_zero_point;
    return y < p->clamp_min ? p->clamp_min : (y > p->clamp_max ? p->clamp_max : (int32_t)y);
}

#endif /* EK_REQUANTIZE_H */
