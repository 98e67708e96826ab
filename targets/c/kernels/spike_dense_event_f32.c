/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_dense_event_f32.h"

void EK_FN(spike_dense_event_f32)(
    const ek_spike_dense_event_f32_params *p,
    const int32_t *inputs,
    const float *w,
    const float *acc,
    const void *const *s,
    float *y)
{
    const ek_spike_sum_f32 *const sum = &p->sum;

    ek_spike_start_f32(acc, p->batches * sum->groups * sum->outputs, y);
    for (int32_t n = 0; n < p->batches; ++n) {
        const float *group = w;
        for (int32_t g = 0; g < sum->groups; ++g) {
            ek_spike_sets all = ek_spike_first_set(s, inputs, p->sets, sum->groups, n, g);
            for (;;) {
                int32_t list[EK_SPIKE_ROOM_F32 + 1];
                const int32_t found =
                    ek_spike_collect_sets(&all, EK_SPIKE_STEP_F32, list, EK_SPIKE_ROOM_F32);
                if (found == 0) {
                    break;
                }
                ek_spike_add_f32(sum, list, found, group, y);
            }
            group += sum->inputs * sum->columns;
            y += sum->outputs;
        }
    }
}
