/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = e^(beta * x) over the sum of these, along rows.
 *
 * x, y: float32 [rows, length]; y may be x.
 * Per row: the maximum; e^((x - maximum) * beta) in order, added in order; each divided by the sum.
 */
#ifndef EK_SOFTMAX_F32_H
#define EK_SOFTMAX_F32_H

#include "ek_math_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t length; /* elements of a row, at least 1 */
    float beta;
} ek_softmax_f32_params;

void EK_FN(softmax_f32)(const ek_softmax_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SOFTMAX_F32_H */
