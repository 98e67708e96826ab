/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = x above zero, alpha * x elsewhere, clamped.
 *
 * x, y: float32 [count]; y may be x.
 */
#ifndef EK_LEAKY_RELU_F32_H
#define EK_LEAKY_RELU_F32_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
    float alpha;
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_leaky_relu_f32_params;

void EK_FN(leaky_relu_f32)(const ek_leaky_relu_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_LEAKY_RELU_F32_H */
