/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Transposed convolution, with groups and dilation.
 *
 * x: int16 [N,H,W,C]; w: int8 [YC,KH,KW,C/groups]; bias: int64 [YC] or NULL;
 * multiplier: int16 [YC], 0 or in [2^14, 2^15); shift: int8 [YC], in -31...14;
 * y: int16 [N,YH,YW,YC]. y must not overlap x.
 *
 * y = clamp(requantize(sum of x * w, + bias)), rounded wide. Sums are int64; the bias wraps.
 */
#ifndef EK_TRANSPOSE_CONV_2D_S16_H
#define EK_TRANSPOSE_CONV_2D_S16_H

#include "ek_transpose_conv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_transpose_channels shape;
    ek_transpose_axis height;
    ek_transpose_axis width;
    int32_t clamp_min; /* bounds of y in -32768...32767 */
    int32_t clamp_max;
} ek_transpose_conv_2d_s16_params;

void EK_FN(transpose_conv_2d_s16)(
    const ek_transpose_conv_2d_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int64_t *bias,
    const int16_t *multiplier,
    const int8_t *shift,
    int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_TRANSPOSE_CONV_2D_S16_H */
