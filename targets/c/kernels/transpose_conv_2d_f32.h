/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Transposed convolution, with groups and dilation.
 *
 * x: float32 [N,H,W,C]; w: float32 [YC,KH,KW,C/groups]; bias: float32 [YC] or NULL;
 * y: float32 [N,YH,YW,YC]. y must not overlap x.
 *
 * y = clamp(sum of x * w, + bias). The sum starts at 0 and adds its products in the order of kernel
 * row, kernel column, channel, each product and each sum rounded; padding is left out.
 */
#ifndef EK_TRANSPOSE_CONV_2D_F32_H
#define EK_TRANSPOSE_CONV_2D_F32_H

#include "ek_ieee.h"
#include "ek_transpose_conv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_transpose_channels shape;
    ek_transpose_axis height;
    ek_transpose_axis width;
    float clamp_min; /* bounds of y, may be infinite */
    float clamp_max;
} ek_transpose_conv_2d_f32_params;

void EK_FN(transpose_conv_2d_f32)(
    const ek_transpose_conv_2d_f32_params *p,
    const float *x,
    const float *w,
    const float *bias,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_TRANSPOSE_CONV_2D_F32_H */
