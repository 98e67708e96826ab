/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_values_s8.h"

void EK_FN(spike_values_s8)(
    const ek_spike_values_s8_params *p,
    const int32_t *s,
    int8_t *y)
{
    for (int32_t n = 0; n < p->batches; ++n) {
        ek_spike_expand_s8(s, 0, p->neurons, y);
        s += p->set_words;
        y += p->neurons;
    }
}
