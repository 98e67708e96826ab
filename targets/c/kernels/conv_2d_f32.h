/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution, with groups, dilation and a fused residual sum.
 *
 * x: float32 [N,H,W,C]; w: float32 [YC,KH,KW,C/groups]; bias: float32 [YC] or NULL;
 * residual: float32 [N,YH,YW,YC] or NULL; y: float32 [N,YH,YW,YC].
 * y must not overlap x; it may be residual.
 *
 * y = clamp(sum of x * w, + bias), then residual_clamp(that + residual). The sum starts at 0 and
 * adds its products in the order of kernel row, kernel column, channel, each product and each sum
 * rounded; padding is left out.
 */
#ifndef EK_CONV_2D_F32_H
#define EK_CONV_2D_F32_H

#include "ek_convolution.h"
#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape shape;
    int32_t groups;  /* divides C and YC */
    float clamp_min; /* bounds of what is added to the residual */
    float clamp_max;
    float residual_clamp_min; /* bounds of y where there is a residual */
    float residual_clamp_max;
} ek_conv_2d_f32_params;

void EK_FN(conv_2d_f32)(
    const ek_conv_2d_f32_params *p,
    const float *x,
    const float *w,
    const float *bias,
    const float *residual,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CONV_2D_F32_H */
