/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution of samples.
 *
 * x: float32 [batches,H,W,I]; w: float32 [O,KH,KW,I / groups]; acc: float32 [batches,OH,OW,O] or NULL
 * for 0; y: float32 likewise; scratch: float32 [KH * KW * I / groups]. y may be acc, and must not overlap
 * anything else.
 *
 * y = acc + sum of x * w, starting with acc + 0, product by product.
 */
#ifndef EK_CURRENT_CONV_2D_F32_H
#define EK_CURRENT_CONV_2D_F32_H

#include "ek_current_conv.h"
#include "ek_current_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape window;
    ek_current_groups sum;
} ek_current_conv_2d_f32_params;

void EK_FN(current_conv_2d_f32)(
    const ek_current_conv_2d_f32_params *p,
    const float *x,
    const float *w,
    const float *acc,
    float *y,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_CURRENT_CONV_2D_F32_H */
