/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Layer normalisation along rows: (x - mean) / sqrt(variance + epsilon) * gamma + beta, clamped.
 *
 * x, y: float32 [rows, length]; gamma, beta: float32 [length] or NULL; y may be x.
 * Mean and variance add in order from +0 and divide once; then, per element: difference, product
 * with the reciprocal root, product with gamma, sum with beta.
 */
#ifndef EK_LAYERNORM_F32_H
#define EK_LAYERNORM_F32_H

#include "ek_math_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t length; /* elements of a row, at least 1 */
    float epsilon;
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_layernorm_f32_params;

void EK_FN(layernorm_f32)(
    const ek_layernorm_f32_params *p, const float *x, const float *gamma, const float *beta, float
    *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_LAYERNORM_F32_H */
