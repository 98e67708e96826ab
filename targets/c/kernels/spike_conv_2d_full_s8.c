/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_conv_2d_full_s8.h"

void EK_FN(spike_conv_2d_full_s8)(
    const ek_spike_conv_2d_full_s8_params *p,
    const int32_t *s,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y,
    void *scratch)
{
    const ek_convolution_shape *const window = &p->window;
    const ek_current_groups *const sum = &p->sum;
    const int32_t depth = window->channels / sum->groups;
    const int32_t image = window->height * window->width * window->channels;
    int8_t *const x = scratch;
    int8_t *const patch = x + image;

    for (int32_t n = 0; n < window->batches; ++n) {
        ek_spike_expand_s8(s, 0, image, x);
        for (int32_t row = 0; row < window->y_height; ++row) {
            for (int32_t column = 0; column < window->y_width; ++column) {
                const ek_spike_place place = ek_spike_locate(window, sum->groups, row, column);
                const int8_t *group = w;
                for (int32_t g = 0; g < sum->groups; ++g) {
                    ek_current_gather(
                        &place, sum->inputs, g * depth, x, (int32_t)sizeof(int8_t), 0, patch);
                    ek_current_sum_s8(
                        patch, group, sum->inputs, sum->outputs, 0, acc, y);
                    group += sum->inputs * sum->outputs;
                    acc = acc == NULL ? NULL : acc + sum->outputs;
                    y += sum->outputs;
                }
            }
        }
        s += p->set_words;
    }
}
