/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_dense_full_f32.h"

/* The spikes of a batch as numbers, group by group, of each set by set. */
static void spike_dense_expand_f32(
    const ek_spike_dense_full_f32_params *p,
    const int32_t *inputs,
    const void *const *s,
    int32_t batch,
    float *x)
{
    for (int32_t g = 0; g < p->groups; ++g) {
        for (int32_t k = 0; k < p->sets; ++k) {
            const int32_t words = ek_spike_words(p->groups * inputs[k]);
            const int32_t *const set = (const int32_t *)s[k] + batch * words;
            ek_spike_expand_f32(set, g * inputs[k], inputs[k], x);
            x += inputs[k];
        }
    }
}

void EK_FN(spike_dense_full_f32)(
    const ek_spike_dense_full_f32_params *p,
    const int32_t *inputs,
    const float *w,
    const float *acc,
    const void *const *s,
    float *y,
    void *scratch)
{
    for (int32_t n = 0; n < p->batches; ++n) {
        const float *group = w;
        const float *x = scratch;

        spike_dense_expand_f32(p, inputs, s, n, scratch);
        for (int32_t g = 0; g < p->groups; ++g) {
            ek_current_sum_f32(x, group, p->inputs, p->outputs, acc, y);
            x += p->inputs;
            group += p->inputs * p->outputs;
            acc = acc == NULL ? NULL : acc + p->outputs;
            y += p->outputs;
        }
    }
}
