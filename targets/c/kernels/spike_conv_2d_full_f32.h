/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution over a bit set, all weights multiplied with 0 or 1.
 *
 * s: int32 [batches,set_words], bit set of [H,W,I]; w: float32 [O,KH,KW,I / groups]; acc: float32
 * [batches,OH,OW,O] or NULL for 0; y: float32 likewise; scratch: float32
 * [H * W * I + KH * KW * I / groups]. y may be acc, and must not overlap anything else.
 */
#ifndef EK_SPIKE_CONV_2D_FULL_F32_H
#define EK_SPIKE_CONV_2D_FULL_F32_H

#include "ek_current_conv.h"
#include "ek_current_f32.h"
#include "ek_spike_expand_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape window;
    ek_current_groups sum;
    int32_t set_words; /* of the bit set of a batch */
} ek_spike_conv_2d_full_f32_params;

void EK_FN(spike_conv_2d_full_f32)(
    const ek_spike_conv_2d_full_f32_params *p,
    const int32_t *s,
    const float *w,
    const float *acc,
    float *y,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_CONV_2D_FULL_F32_H */
