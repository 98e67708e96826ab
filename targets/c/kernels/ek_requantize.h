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

/* Difference and sum wrap, which only int32 operands can come to. */
static inline int32_t ek_requantize_element(const ek_requantize_params *p, int32_t x)
{
    const int32_t difference = (int32_t)((uint32_t)x - (uint32_t)p->x_zero_point);
    const int32_t scaled = ek_requantize_double(difference, p->multiplier, p->shift);
    const int32_t y = ek_add_wrap_s32(scaled, p->y_zero_point);
    return ek_clamp_s32(y, p->clamp_min, p->clamp_max);
}

#endif /* EK_REQUANTIZE_H */
