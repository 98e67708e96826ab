/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Transposed convolution, with groups and dilation.
 *
 * x: int8 [N,H,W,C]; w: int8 [YC,KH,KW,C/groups]; bias: int32 [YC] or NULL;
 * multiplier: int32 [YC], 0 or in [2^30, 2^31); shift: int8 [YC], in -31...30;
 * y: int8 [N,YH,YW,YC]. y must not overlap x.
 *
 * y = clamp(requantize(sum of (x - x_zero_point) * w, + bias) + y_zero_point), rounded double.
 * Sums of at most 65793 products fit int32; the bias wraps.
 */
#ifndef EK_TRANSPOSE_CONV_2D_S8_H
#define EK_TRANSPOSE_CONV_2D_S8_H

#include "ek_transpose_conv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_transpose_channels shape;
    ek_transpose_axis height;
    ek_transpose_axis width;
    int32_t x_zero_point; /* -128...127 */
    int32_t y_zero_point;
    int32_t clamp_min; /* bounds of y in -128...127 */
    int32_t clamp_max;
} ek_transpose_conv_2d_s8_params;

void EK_FN(transpose_conv_2d_s8)(
    const ek_transpose_conv_2d_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *bias,
    const int32_t *multiplier,
    const int8_t *shift,
    int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_TRANSPOSE_CONV_2D_S8_H */
