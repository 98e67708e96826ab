/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_values_f32.h"

void EK_FN(spike_values_f32)(
    const ek_spike_values_f32_params *p,
    const int32_t *s,
    float *y)
{
    for (int32_t n = 0; n < p->batches; ++n) {
        ek_spike_expand_f32(s, 0, p->neurons, y);
        s += p->set_words;
        y += p->neurons;
    }
}
