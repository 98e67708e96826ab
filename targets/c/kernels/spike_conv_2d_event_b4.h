/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolution over a bit set, event-driven; weights in fields of 4 bits.
 *
 * s: int32 [batches,set_words], bit set of [H,W,I]; w: int32, the words of
 * ek_spike_sum.h, group by group, of each block by block, of each input by input; acc: int32
 * [batches,OH,OW,O] or NULL for 0; y: int32 likewise. y may be acc, and must not overlap s.
 */
#ifndef EK_SPIKE_CONV_2D_EVENT_B4_H
#define EK_SPIKE_CONV_2D_EVENT_B4_H

#include "ek_spike_conv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_convolution_shape window;
    ek_spike_sum sum;
} ek_spike_conv_2d_event_b4_params;

void EK_FN(spike_conv_2d_event_b4)(
    const ek_spike_conv_2d_event_b4_params *p,
    const int32_t *s,
    const int32_t *w,
    const int32_t *acc,
    int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_CONV_2D_EVENT_B4_H */
