/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_conv_2d_full_f32.h"

void EK_FN(spike_conv_2d_full_f32)(
    const ek_spike_conv_2d_full_f32_params *p,
    const int32_t *s,
    const float *w,
    const float *acc,
    float *y,
    void *scratch)
{
    const ek_convolution_shape *const window = &p->window;
    const ek_current_groups *const sum = &p->sum;
    const int32_t depth = window->channels / sum->groups;
    const int32_t image = window->height * window->width * window->channels;
    float *const x = scratch;
    float *const patch = x + image;

    for (int32_t n = 0; n < window->batches; ++n) {
        ek_spike_expand_f32(s, 0, image, x);
        for (int32_t row = 0; row < window->y_height; ++row) {
            for (int32_t column = 0; column < window->y_width; ++column) {
                const ek_spike_place place = ek_spike_locate(window, sum->groups, row, column);
                const float *group = w;
                for (int32_t g = 0; g < sum->groups; ++g) {
                    ek_current_gather(
                        &place, sum->inputs, g * depth, x, (int32_t)sizeof(float), 0, patch);
                    ek_current_sum_f32(
                        patch, group, sum->inputs, sum->outputs, acc, y);
                    group += sum->inputs * sum->outputs;
                    acc = acc == NULL ? NULL : acc + sum->outputs;
                    y += sum->outputs;
                }
            }
        }
        s += p->set_words;
    }
}
