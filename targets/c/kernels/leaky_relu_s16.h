/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = x at and above zero, alpha * x below.
 *
 * x, y: int16 [count], zero points 0; y may be x.
 */
#ifndef EK_LEAKY_RELU_S16_H
#define EK_LEAKY_RELU_S16_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count;    /* elements */
    int32_t negative; /* whether alpha is negative */
    int32_t identity_multiplier;
    int32_t identity_shift;
    int32_t slope_multiplier; /* times |alpha| */
    int32_t slope_shift;
    int32_t clamp_min; /* bounds of y */
    int32_t clamp_max;
} ek_leaky_relu_s16_params;

void EK_FN(leaky_relu_s16)(const ek_leaky_relu_s16_params *p, const int16_t *x, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_LEAKY_RELU_S16_H */
