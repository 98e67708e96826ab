/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Layer normalisation along rows: (x - mean) / sqrt(variance + epsilon) * gamma + beta, clamped.
 *
 * x, y: int8 [rows, length]; gamma: int16 [length] or NULL; beta: int32 [length] or NULL, in steps
 * of gamma's scale / 1024; y may be x. Integers only, as edgekit's LayerNorm defines them.
 */
#ifndef EK_LAYERNORM_S8_H
#define EK_LAYERNORM_S8_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t length;     /* elements of a row, 1...65535 */
    int64_t epsilon;    /* 1...2^60, times length^2, in steps of 2^-14 of x squared */
    int32_t multiplier; /* from normalised value (10 fractional bits) times gamma to y */
    int32_t shift;
    int32_t y_zero_point;
    int32_t clamp_min; /* bounds of y */
    int32_t clamp_max;
} ek_layernorm_s8_params;

void EK_FN(layernorm_s8)(
    const ek_layernorm_s8_params *p, const int8_t *x, const int16_t *gamma, const int32_t *beta,
    int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_LAYERNORM_S8_H */
