/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution of every channel by itself, with dilation.
 *
 * x: float32 [N,H,W,C]; w: float32 [KH,KW,YC], YC = C * m, channel i * m + j reads channel i;
 * bias: float32 [YC] or NULL; y: float32 [N,YH,YW,YC]. y must not overlap x.
 *
 * y = clamp(sum of x * w, + bias). The sum starts at 0 and adds its products in the order of kernel
 * row, kernel column, channel, each product and each sum rounded; padding is left out.
 */
#ifndef EK_DEPTHWISE_CONV_2D_F32_H
#define EK_DEPTHWISE_CONV_2D_F32_H

#include "ek_convolution.h"
#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape shape;
    float clamp_min; /* bounds of y, may be infinite */
    float clamp_max;
} ek_depthwise_conv_2d_f32_params;

void EK_FN(depthwise_conv_2d_f32)(
    const ek_depthwise_conv_2d_f32_params *p,
    const float *x,
    const float *w,
    const float *bias,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_DEPTHWISE_CONV_2D_F32_H */
