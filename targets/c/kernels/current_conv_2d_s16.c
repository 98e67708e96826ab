/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "current_conv_2d_s16.h"

void EK_FN(current_conv_2d_s16)(
    const ek_current_conv_2d_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y,
    void *scratch)
{
    const ek_convolution_shape *const window = &p->window;
    const ek_current_groups *const sum = &p->sum;
    const int32_t depth = window->channels / sum->groups;
    const int32_t image = window->height * window->width * window->channels;
    int16_t *const patch = scratch;

    for (int32_t n = 0; n < window->batches; ++n) {
        for (int32_t row = 0; row < window->y_height; ++row) {
            for (int32_t column = 0; column < window->y_width; ++column) {
                const ek_spike_place place = ek_spike_locate(window, sum->groups, row, column);
                const int8_t *group = w;
                for (int32_t g = 0; g < sum->groups; ++g) {
                    ek_current_gather(
                        &place, sum->inputs, g * depth, x, (int32_t)sizeof(int16_t), 0, patch);
                    ek_current_sum_s16(
                        patch, group, sum->inputs, sum->outputs, acc, y);
                    group += sum->inputs * sum->outputs;
                    acc = acc == NULL ? NULL : acc + sum->outputs;
                    y += sum->outputs;
                }
            }
        }
        x += image;
    }
}
