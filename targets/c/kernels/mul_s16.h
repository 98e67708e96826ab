/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = a * b between three quantisations, clamped.
 *
 * a, b: int16, of any shapes that broadcast, described by walk; y: int16, in row-major order.
 * y may be a or b where that has y's shape.
 */
#ifndef EK_MUL_S16_H
#define EK_MUL_S16_H

#include "ek_broadcast.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_broadcast walk;
    int32_t a_zero_point; /* 0, and b_zero_point: the product must fit int32 */
    int32_t b_zero_point;
    int32_t y_zero_point;
    int32_t multiplier; /* from the product of the operands to y */
    int32_t shift;
    int32_t clamp_min; /* bounds of y */
    int32_t clamp_max;
} ek_mul_s16_params;

void EK_FN(mul_s16)(const ek_mul_s16_params *p, const int16_t *a, const int16_t *b, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_MUL_S16_H */
