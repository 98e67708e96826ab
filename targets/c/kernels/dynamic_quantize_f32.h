/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * int8 with a scale per row: absmax / 127, absmax the row's largest magnitude or floor_absmax.
 *
 * x: float32 [rows, length]; y: int8 [rows, length], in -127...127; scale: float32 [rows].
 * None may overlap.
 * y = x * (127 / absmax), clamped, then rounded, halves to even.
 */
#ifndef EK_DYNAMIC_QUANTIZE_F32_H
#define EK_DYNAMIC_QUANTIZE_F32_H

#include "ek_math_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t length;     /* elements of a row */
    float floor_absmax; /* smallest absmax, positive */
} ek_dynamic_quantize_f32_params;

void EK_FN(dynamic_quantize_f32)(
    const ek_dynamic_quantize_f32_params *p, const float *x, int8_t *y, float *scale);

#ifdef __cplusplus
}
#endif

#endif /* EK_DYNAMIC_QUANTIZE_F32_H */
