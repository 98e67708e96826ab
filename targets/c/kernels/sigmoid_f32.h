/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = 1 / (1 + e^-x).
 *
 * x, y: float32 [count]; y may be x.
 */
#ifndef EK_SIGMOID_F32_H
#define EK_SIGMOID_F32_H

#include "ek_math_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
} ek_sigmoid_f32_params;

void EK_FN(sigmoid_f32)(const ek_sigmoid_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SIGMOID_F32_H */
