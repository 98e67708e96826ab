/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "depthwise_conv_2d_s8.h"

/* Sums of four channels that are neighbours in x and in w. */
static void depthwise_sum4_s8(
    const ek_convolution_runs *r,
    const int8_t *x,
    const int8_t *w,
    int32_t zero_point,
    int32_t *sums)
{
    int32_t acc0 = 0;
    int32_t acc1 = 0;
    int32_t acc2 = 0;
    int32_t acc3 = 0;
    for (int32_t row = r->rows; row > 0; --row) {
        const int8_t *x_tap = x;
        const int8_t *w_tap = w;
        for (int32_t column = r->runs; column > 0; --column) {
            acc0 += (x_tap[0] - zero_point) * w_tap[0];
            acc1 += (x_tap[1] - zero_point) * w_tap[1];
            acc2 += (x_tap[2] - zero_point) * w_tap[2];
            acc3 += (x_tap[3] - zero_point) * w_tap[3];
            x_tap += r->x_run;
            w_tap += r->w_run;
        }
        x += r->x_row;
        w += r->w_row;
    }
    sums[0] = acc0;
    sums[1] = acc1;
    sums[2] = acc2;
    sums[3] = acc3;
}

/* Sum of one channel. */
static int32_t depthwise_sum1_s8(
    const ek_convolution_runs *r, const int8_t *x, const int8_t *w, int32_t zero_point)
{
    int32_t sum = 0;
    for (int32_t row = r->rows; row > 0; --row) {
        const int8_t *x_tap = x;
        const int8_t *w_tap = w;
        for (int32_t column = r->runs; column > 0; --column) {
            sum += (*x_tap - zero_point) * *w_tap;
            x_tap += r->x_run;
            w_tap += r->w_run;
        }
        x += r->x_row;
        w += r->w_row;
    }
    return sum;
}

void EK_FN(depthwise_conv_2d_s8)(
    const ek_depthwise_conv_2d_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *bias,
    const int32_t *multiplier,
    const int8_t *shift,
    int8_t *y)
{
    const ek_convolution_shape *s = &p->shape;
    const int32_t factor = s->y_channels / s->channels;
    ek_convolution_runs r = ek_convolution_steps(s, s->y_channels);

    for (int32_t n = 0; n < s->batches; ++n) {
        for (int32_t y_row = 0; y_row < s->y_height; ++y_row) {
            for (int32_t y_column = 0; y_column < s->y_width; ++y_column) {
                const ek_convolution_window window =
                    ek_convolution_locate(s, n, y_row, y_column);
                const int8_t *x_channel = x + window.offset;
                const int8_t *w_channel = w + window.tap * s->y_channels;
                int32_t reads = 0; /* channels that read x_channel so far */

                ek_convolution_enter(&r, &window, 1, 0);
                for (int32_t channel = 0; channel < s->y_channels;) {
                    int32_t sums[4];
                    int32_t count = 1;

                    if (factor == 1 && s->y_channels - channel >= 4) {
                        count = 4;
                        depthwise_sum4_s8(&r, x_channel, w_channel, p->x_zero_point, sums);
                        x_channel += 4;
                    } else {
                        sums[0] = depthwise_sum1_s8(&r, x_channel, w_channel, p->x_zero_point);
                        if (++reads == factor) {
                            reads = 0;
                            ++x_channel;
                        }
                    }
                    for (int32_t i = 0; i < count; ++i, ++channel) {
                        const int32_t offset = bias == NULL ? 0 : bias[channel];
                        const int32_t scaled = ek_requantize_double(
                            ek_add_wrap_s32(sums[i], offset), multiplier[channel], shift[channel]);
                        *y++ = (int8_t)ek_clamp_s32(
                            ek_add_wrap_s32(scaled, p->y_zero_point), p->clamp_min, p->clamp_max);
                    }
                    w_channel += count;
                }
            }
        }
    }
}
