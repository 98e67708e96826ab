/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conv_2d_f32.h"

#include "ek_dot_f32.h"

/* Sums of the next four output channels, or of one where fewer are left. Returns how many. */
static int32_t conv_2d_sum_f32(
    const ek_convolution_runs *r,
    const float *x,
    const float *w,
    int32_t filter,
    int32_t left,
    float *sums)
{
    const int32_t channels = left < 4 ? 1 : 4;

    sums[0] = sums[1] = sums[2] = sums[3] = 0.0f;
    for (int32_t row = r->rows; row > 0; --row) {
        const float *x_run = x;
        const float *w_run = w;
        for (int32_t run = r->runs; run > 0; --run) {
            if (channels == 4) {
                ek_dot4_f32(x_run, w_run, filter, r->count, sums);
            } else {
                sums[0] = ek_dot_f32(x_run, w_run, r->count, sums[0]);
            }
            x_run += r->x_run;
            w_run += r->w_run;
        }
        x += r->x_row;
        w += r->w_row;
    }
    return channels;
}

void EK_FN(conv_2d_f32)(
    const ek_conv_2d_f32_params *p,
    const float *x,
    const float *w,
    const float *bias,
    const float *residual,
    float *y)
{
    const ek_convolution_shape *s = &p->shape;
    const int32_t depth = s->channels / p->groups;
    const int32_t y_depth = s->y_channels / p->groups;
    const int32_t whole_rows = p->groups == 1 && s->dilation_width == 1;
    const int32_t filter = s->kernel_height * s->kernel_width * depth;
    ek_convolution_runs r = ek_convolution_steps(s, depth);

    for (int32_t n = 0; n < s->batches; ++n) {
        for (int32_t y_row = 0; y_row < s->y_height; ++y_row) {
            for (int32_t y_column = 0; y_column < s->y_width; ++y_column) {
                const ek_convolution_window window =
                    ek_convolution_locate(s, n, y_row, y_column);
                const float *x_group = x + window.offset;
                const float *w_channel = w + window.tap * depth;
                int32_t left = y_depth;

                ek_convolution_enter(&r, &window, depth, whole_rows);
                for (int32_t channel = 0; channel < s->y_channels;) {
                    float sums[4];
                    const int32_t count =
                        conv_2d_sum_f32(&r, x_group, w_channel, filter, left, sums);

                    for (int32_t i = 0; i < count; ++i, ++channel) {
                        float value = bias == NULL ? sums[i] : sums[i] + bias[channel];

                        value = ek_clamp_f32(value, p->clamp_min, p->clamp_max);
                        if (residual != NULL) {
                            value = ek_clamp_f32(
                                value + *residual++, p->residual_clamp_min, p->residual_clamp_max);
                        }
                        *y++ = value;
                    }
                    w_channel += count * filter;
                    left -= count;
                    if (left == 0) {
                        left = y_depth;
                        x_group += depth;
                    }
                }
            }
        }
    }
}
