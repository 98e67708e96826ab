/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution of samples.
 *
 * x: int16 [batches,H,W,I]; w: int8 [O,KH,KW,I / groups]; acc: int32 [batches,OH,OW,O] or NULL
 * for 0; y: int32 likewise; scratch: int16 [KH * KW * I / groups]. y may be acc, and must not overlap
 * anything else.
 *
 * y = acc + sum of x * w, modulo 2^32.
 */
#ifndef EK_CURRENT_CONV_2D_S16_H
#define EK_CURRENT_CONV_2D_S16_H

#include "ek_current_conv.h"
#include "ek_current_s16.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape window;
    ek_current_groups sum;
} ek_current_conv_2d_s16_params;

void EK_FN(current_conv_2d_s16)(
    const ek_current_conv_2d_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_CURRENT_CONV_2D_S16_H */
