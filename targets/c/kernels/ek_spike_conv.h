/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Event-driven convolutions: for every place of the output the active inputs under the window are
 * listed, as inputs of a dense sum over (kernel row, kernel column, input channel).
 */
#ifndef EK_SPIKE_CONV_H
#define EK_SPIKE_CONV_H

#include "ek_spike_conv_window.h"
#include "ek_spike_sum.h"

/* y[o] = from[o] + sum over the window, for the outputs of a group that begins `channel` input
 * channels into every tap. */
EK_SPIKE_INLINE void ek_spike_window(
    const ek_spike_sum *sum,
    int32_t field,
    const ek_spike_place *place,
    int32_t channel,
    const int32_t *s,
    const uint32_t *w,
    const int32_t *from,
    int32_t *y)
{
    const ek_convolution_runs *const r = &place->runs;
    int32_t list[EK_SPIKE_ROOM + 1];
    int32_t found = 0;

    for (int32_t row = 0; row < r->rows; ++row) {
        for (int32_t run = 0; run < r->runs; ++run) {
            const int32_t first = place->first + channel + row * r->x_row + run * r->x_run;
            const int32_t base = place->first_tap + row * r->w_row + run * r->w_run;
            ek_spike_scan scan = ek_spike_begin(s, first, r->count);
            for (;;) {
                found = ek_spike_collect(&scan, base, EK_SPIKE_STEP, list, found, sum->room);
                if (found < sum->room) {
                    break;
                }
                ek_spike_add(sum, field, list, found, w, from, y);
                from = y;
                found = 0;
            }
        }
    }
    ek_spike_add(sum, field, list, found, w, from, y);
}

EK_SPIKE_INLINE void ek_spike_conv(
    const ek_convolution_shape *window,
    const ek_spike_sum *sum,
    int32_t field,
    const int32_t *s,
    const int32_t *w,
    const int32_t *acc,
    int32_t *y)
{
    const int32_t depth = window->channels / sum->groups;
    const int32_t outputs = sum->outputs;
    const int32_t set_words =
        ek_spike_words(window->height * window->width * window->channels);

    for (int32_t n = 0; n < window->batches; ++n, s += set_words) {
        for (int32_t row = 0; row < window->y_height; ++row) {
            for (int32_t column = 0; column < window->y_width; ++column) {
                const ek_spike_place place = ek_spike_locate(window, sum->groups, row, column);
                const uint32_t *group = (const uint32_t *)w;
                for (int32_t g = 0; g < sum->groups; ++g) {
                    ek_spike_window(sum, field, &place, g * depth, s, group, acc, y);
                    group += sum->inputs * sum->words;
                    acc = acc == NULL ? NULL : acc + outputs;
                    y += outputs;
                }
            }
        }
    }
}

#endif /* EK_SPIKE_CONV_H */
