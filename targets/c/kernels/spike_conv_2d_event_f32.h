/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution over a bit set with float32 weights, event-driven.
 *
 * s: int32 [batches,set_words], bit set of [H,W,I]; w: float32, in the blocks of ek_spike_f32.h,
 * group by group, inputs numbered (kernel row, kernel column, channel); acc: float32
 * [batches,OH,OW,O] or NULL for 0; y: float32 likewise. y may be acc, and must not overlap s.
 */
#ifndef EK_SPIKE_CONV_2D_EVENT_F32_H
#define EK_SPIKE_CONV_2D_EVENT_F32_H

#include "ek_spike_conv_window.h"
#include "ek_spike_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape window;
    ek_spike_sum_f32 sum;
} ek_spike_conv_2d_event_f32_params;

void EK_FN(spike_conv_2d_event_f32)(
    const ek_spike_conv_2d_event_f32_params *p,
    const int32_t *s,
    const float *w,
    const float *acc,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_CONV_2D_EVENT_F32_H */
