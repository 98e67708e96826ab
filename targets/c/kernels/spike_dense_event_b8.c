/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_dense_event_b8.h"

void EK_FN(spike_dense_event_b8)(
    const ek_spike_dense_event_b8_params *p,
    const int32_t *inputs,
    const int32_t *w,
    const int32_t *acc,
    const void *const *s,
    int32_t *y)
{
    ek_spike_dense(p->batches, p->sets, &p->sum, EK_SPIKE_FIELD_8, inputs, w, acc, s, y);
}
