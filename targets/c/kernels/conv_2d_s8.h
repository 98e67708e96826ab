/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution, with groups, dilation and a fused residual sum.
 *
 * x: int8 [N,H,W,C]; w: int8 [YC,KH,KW,C/groups]; bias: int32 [YC] or NULL;
 * multiplier: int32 [YC], 0 or in [2^30, 2^31); shift: int8 [YC], in -31...30;
 * residual: int8 [N,YH,YW,YC] or NULL; y: int8 [N,YH,YW,YC].
 * y must not overlap x; it may be residual.
 *
 * y = clamp(requantize(sum of (x - x_zero_point) * w, + bias) + y_zero_point), rounded double, then
 * ek_sum of that and the residual. Sums of at most 65793 products fit int32; the bias wraps.
 */
#ifndef EK_CONV_2D_S8_H
#define EK_CONV_2D_S8_H

#include "ek_convolution.h"
#include "ek_sum.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape shape;
    int32_t groups;       /* divides C and YC */
    int32_t x_zero_point; /* -128...127 */
    int32_t y_zero_point;
    int32_t clamp_min; /* bounds in -128...127 of what is added to the residual */
    int32_t clamp_max;
    ek_sum_params residual; /* read where there is a residual */
} ek_conv_2d_s8_params;

void EK_FN(conv_2d_s8)(
    const ek_conv_2d_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *bias,
    const int32_t *multiplier,
    const int8_t *shift,
    const int8_t *residual,
    int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CONV_2D_S8_H */
