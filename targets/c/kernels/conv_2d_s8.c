/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conv_2d_s8.h"

#include "ek_dot_s8.h"

/* Sums of the next four output channels, or of one where fewer are left. Returns how many. */
static int32_t conv_2d_sum_s8(
    const ek_convolution_runs *r,
    const int8_t *x,
    const int8_t *w,
    int32_t filter,
    int32_t zero_point,
    int32_t left,
    int32_t *sums)
{
    const int32_t channels = left < 4 ? 1 : 4;

    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    for (int32_t row = r->rows; row > 0; --row) {
        const int8_t *x_run = x;
        const int8_t *w_run = w;
        for (int32_t run = r->runs; run > 0; --run) {
            if (channels == 4) {
                ek_dot4_s8(x_run, w_run, filter, r->count, zero_point, sums);
            } else {
                sums[0] += ek_dot_s8(x_run, w_run, r->count, zero_point);
            }
            x_run += r->x_run;
            w_run += r->w_run;
        }
        x += r->x_row;
        w += r->w_row;
    }
    return channels;
}

static inline int32_t conv_2d_requantize_s8(
    const ek_conv_2d_s8_params *p, int32_t sum, int32_t multiplier, int32_t shift)
{
    const int32_t scaled = ek_requantize_double(sum, multiplier, shift);
    return ek_clamp_s32(ek_add_wrap_s32(scaled, p->y_zero_point), p->clamp_min, p->clamp_max);
}

void EK_FN(conv_2d_s8)(
    const ek_conv_2d_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *bias,
    const int32_t *multiplier,
    const int8_t *shift,
    const int8_t *residual,
    int8_t *y)
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
                const int8_t *x_group = x + window.offset;
                const int8_t *w_channel = w + window.tap * depth;
                int32_t left = y_depth;

                ek_convolution_enter(&r, &window, depth, whole_rows);
                for (int32_t channel = 0; channel < s->y_channels;) {
                    int32_t sums[4];
                    const int32_t count = conv_2d_sum_s8(
                        &r, x_group, w_channel, filter, p->x_zero_point, left, sums);

                    for (int32_t i = 0; i < count; ++i, ++channel) {
                        const int32_t offset = bias == NULL ? 0 : bias[channel];
                        int32_t value = conv_2d_requantize_s8(
                            p,
                            ek_add_wrap_s32(sums[i], offset),
                            multiplier[channel],
                            shift[channel]);
                        if (residual != NULL) {
                            value = ek_sum(&p->residual, value, *residual++);
                        }
                        *y++ = (int8_t)value;
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
