/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution of samples.
 *
 * x: int8 [batches,H,W,I]; w: int8 [O,KH,KW,I / groups]; acc: int32 [batches,OH,OW,O] or NULL
 * for 0; y: int32 likewise; scratch: int8 [KH * KW * I / groups]. y may be acc, and must not overlap
 * anything else.
 *
 * y = acc + sum of (x - x_zero_point) * w, modulo 2^32.
 */
#ifndef EK_CURRENT_CONV_2D_S8_H
#define EK_CURRENT_CONV_2D_S8_H

#include "ek_current_conv.h"
#include "ek_current_s8.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape window;
    ek_current_groups sum;
    int32_t x_zero_point; /* -128...127 */
} ek_current_conv_2d_s8_params;

void EK_FN(current_conv_2d_s8)(
    const ek_current_conv_2d_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_CURRENT_CONV_2D_S8_H */
