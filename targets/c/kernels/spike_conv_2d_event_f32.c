/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_conv_2d_event_f32.h"

/* y[o] += sum over the window, for the outputs of a group that begins `channel` input channels into
 * every tap. */
static void spike_conv_2d_window_f32(
    const ek_spike_sum_f32 *sum,
    const ek_spike_place *place,
    int32_t channel,
    const int32_t *s,
    const float *w,
    float *y)
{
    const ek_convolution_runs *const r = &place->runs;
    int32_t list[EK_SPIKE_ROOM_F32 + 1];
    int32_t found = 0;

    for (int32_t row = 0; row < r->rows; ++row) {
        for (int32_t run = 0; run < r->runs; ++run) {
            const int32_t first = place->first + channel + row * r->x_row + run * r->x_run;
            const int32_t base = place->first_tap + row * r->w_row + run * r->w_run;
            ek_spike_scan scan = ek_spike_begin(s, first, r->count);
            for (;;) {
                found = ek_spike_collect(
                    &scan, base, EK_SPIKE_STEP_F32, list, found, EK_SPIKE_ROOM_F32);
                if (found < EK_SPIKE_ROOM_F32) {
                    break;
                }
                ek_spike_add_f32(sum, list, found, w, y);
                found = 0;
            }
        }
    }
    if (found > 0) {
        ek_spike_add_f32(sum, list, found, w, y);
    }
}

void EK_FN(spike_conv_2d_event_f32)(
    const ek_spike_conv_2d_event_f32_params *p,
    const int32_t *s,
    const float *w,
    const float *acc,
    float *y)
{
    const ek_convolution_shape *const window = &p->window;
    const ek_spike_sum_f32 *const sum = &p->sum;
    const int32_t depth = window->channels / sum->groups;
    const int32_t set_words =
        ek_spike_words(window->height * window->width * window->channels);
    const int32_t places = window->batches * window->y_height * window->y_width;

    ek_spike_start_f32(acc, places * sum->groups * sum->outputs, y);
    for (int32_t n = 0; n < window->batches; ++n, s += set_words) {
        for (int32_t row = 0; row < window->y_height; ++row) {
            for (int32_t column = 0; column < window->y_width; ++column) {
                const ek_spike_place place = ek_spike_locate(window, sum->groups, row, column);
                const float *group = w;
                for (int32_t g = 0; g < sum->groups; ++g) {
                    spike_conv_2d_window_f32(sum, &place, g * depth, s, group, y);
                    group += sum->inputs * sum->columns;
                    y += sum->outputs;
                }
            }
        }
    }
}
