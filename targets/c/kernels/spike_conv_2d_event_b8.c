/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_conv_2d_event_b8.h"

void EK_FN(spike_conv_2d_event_b8)(
    const ek_spike_conv_2d_event_b8_params *p,
    const int32_t *s,
    const int32_t *w,
    const int32_t *acc,
    int32_t *y)
{
    ek_spike_conv(&p->window, &p->sum, EK_SPIKE_FIELD_8, s, w, acc, y);
}
