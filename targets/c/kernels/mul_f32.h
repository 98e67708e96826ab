/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = a * b, clamped: one rounding.
 *
 * a, b: float32, of any shapes that broadcast, described by walk; y: float32, in row-major order.
 * y may be a or b where that has y's shape.
 */
#ifndef EK_MUL_F32_H
#define EK_MUL_F32_H

#include "ek_broadcast.h"
#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_broadcast walk;
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_mul_f32_params;

void EK_FN(mul_f32)(const ek_mul_f32_params *p, const float *a, const float *b, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_MUL_F32_H */
