/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_conv_2d_event_b4c.h"

void EK_FN(spike_conv_2d_event_b4c)(
    const ek_spike_conv_2d_event_b4c_params *p,
    const int32_t *s,
    const int32_t *w,
    const int32_t *acc,
    int32_t *y)
{
    ek_spike_conv(&p->window, &p->sum, EK_SPIKE_FIELD_4_CARRY, s, w, acc, y);
}
