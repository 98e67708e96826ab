/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution, with groups, dilation and a fused residual sum.
 *
 * x: int16 [N,H,W,C]; w: int8 [YC,KH,KW,C/groups]; bias: int64 [YC] or NULL;
 * multiplier: int16 [YC], 0 or in [2^14, 2^15); shift: int8 [YC], in -31...14;
 * residual: int16 [N,YH,YW,YC] or NULL; y: int16 [N,YH,YW,YC].
 * y must not overlap x; it may be residual.
 *
 * y = clamp(requantize(sum of x * w, + bias)), rounded wide, then ek_sum of that and the residual.
 * Sums are int64; the bias wraps.
 */
#ifndef EK_CONV_2D_S16_H
#define EK_CONV_2D_S16_H

#include "ek_convolution.h"
#include "ek_sum.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape shape;
    int32_t groups;    /* divides C and YC */
    int32_t clamp_min; /* bounds in -32768...32767 of what is added to the residual */
    int32_t clamp_max;
    ek_sum_params residual; /* read where there is a residual */
} ek_conv_2d_s16_params;

void EK_FN(conv_2d_s16)(
    const ek_conv_2d_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int64_t *bias,
    const int16_t *multiplier,
    const int8_t *shift,
    const int16_t *residual,
    int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CONV_2D_S16_H */
