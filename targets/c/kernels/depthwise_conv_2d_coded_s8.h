/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution of every channel by itself with coded weights, with dilation; see ek_coded.h for the
 * weights and for the proof that nothing overflows.
 *
 * x: int8 [N,H,W,C]; w: packed rows, uint8 [YC,row_bytes], a row [KH,KW], YC = C * m,
 * channel i * m + j reads channel i;
 * factors: codes, uint8 [YC,groups] or NULL; levels: int16 [2^bits] or NULL;
 * bias: [YC] or NULL, int64 where int64_totals, else int32; multiplier: of the same dtype, [YC];
 * shift: int8 [YC]; y: int8 [N,YH,YW,YC]. y must not overlap x.
 *
 * y = clamp(requantize(total, + bias) + y_zero_point).
 * Rounded float64 where int64_totals (multiplier 0 or in [2^52, 2^53), shift in -74...32), else
 * single (multiplier 0 or in [2^30, 2^31), shift in -31...30).
 */
#ifndef EK_DEPTHWISE_CONV_2D_CODED_S8_H
#define EK_DEPTHWISE_CONV_2D_CODED_S8_H

#include "ek_coding.h"
#include "ek_convolution.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape shape;
    ek_coding coding;
    int32_t int64_totals;
    int32_t x_zero_point; /* -128...127 */
    int32_t y_zero_point;
    int32_t clamp_min; /* bounds of y in -128...127 */
    int32_t clamp_max;
} ek_depthwise_conv_2d_coded_s8_params;

void EK_FN(depthwise_conv_2d_coded_s8)(
    const ek_depthwise_conv_2d_coded_s8_params *p,
    const int8_t *x,
    const uint8_t *w,
    const uint8_t *factors,
    const int16_t *levels,
    const void *bias,
    const void *multiplier,
    const int8_t *shift,
    int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_DEPTHWISE_CONV_2D_CODED_S8_H */
