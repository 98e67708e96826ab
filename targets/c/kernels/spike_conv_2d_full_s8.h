/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution over a bit set, all weights multiplied with 0 or 1.
 *
 * s: int32 [batches,set_words], bit set of [H,W,I]; w: int8 [O,KH,KW,I / groups]; acc: int32
 * [batches,OH,OW,O] or NULL for 0; y: int32 likewise; scratch: int8
 * [H * W * I + KH * KW * I / groups]. y may be acc, and must not overlap anything else.
 */
#ifndef EK_SPIKE_CONV_2D_FULL_S8_H
#define EK_SPIKE_CONV_2D_FULL_S8_H

#include "ek_current_conv.h"
#include "ek_current_s8.h"
#include "ek_spike.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape window;
    ek_current_groups sum;
    int32_t set_words; /* of the bit set of a batch */
} ek_spike_conv_2d_full_s8_params;

void EK_FN(spike_conv_2d_full_s8)(
    const ek_spike_conv_2d_full_s8_params *p,
    const int32_t *s,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_CONV_2D_FULL_S8_H */
