/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "depthwise_conv_2d_f32.h"

/* Sums of four channels that are neighbours in x and in w. */
static void depthwise_sum4_f32(
    const ek_convolution_runs *r, const float *x, const float *w, float *sums)
{
    float acc0 = 0.0f;
    float acc1 = 0.0f;
    float acc2 = 0.0f;
    float acc3 = 0.0f;
    for (int32_t row = r->rows; row > 0; --row) {
        const float *x_tap = x;
        const float *w_tap = w;
        for (int32_t column = r->runs; column > 0; --column) {
            acc0 += x_tap[0] * w_tap[0];
            acc1 += x_tap[1] * w_tap[1];
            acc2 += x_tap[2] * w_tap[2];
            acc3 += x_tap[3] * w_tap[3];
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
static float depthwise_sum1_f32(const ek_convolution_runs *r, const float *x, const float *w)
{
    float sum = 0.0f;
    for (int32_t row = r->rows; row > 0; --row) {
        const float *x_tap = x;
        const float *w_tap = w;
        for (int32_t column = r->runs; column > 0; --column) {
            sum += *x_tap * *w_tap;
            x_tap += r->x_run;
            w_tap += r->w_run;
        }
        x += r->x_row;
        w += r->w_row;
    }
    return sum;
}

void EK_FN(depthwise_conv_2d_f32)(
    const ek_depthwise_conv_2d_f32_params *p,
    const float *x,
    const float *w,
    const float *bias,
    float *y)
{
    const ek_convolution_shape *s = &p->shape;
    const int32_t factor = s->y_channels / s->channels;
    ek_convolution_runs r = ek_convolution_steps(s, s->y_channels);

    for (int32_t n = 0; n < s->batches; ++n) {
        for (int32_t y_row = 0; y_row < s->y_height; ++y_row) {
            for (int32_t y_column = 0; y_column < s->y_width; ++y_column) {
                const ek_convolution_window window =
                    ek_convolution_locate(s, n, y_row, y_column);
                const float *x_channel = x + window.offset;
                const float *w_channel = w + window.tap * s->y_channels;
                int32_t reads = 0; /* channels that read x_channel so far */

                ek_convolution_enter(&r, &window, 1, 0);
                for (int32_t channel = 0; channel < s->y_channels;) {
                    float sums[4];
                    int32_t count = 1;

                    if (factor == 1 && s->y_channels - channel >= 4) {
                        count = 4;
                        depthwise_sum4_f32(&r, x_channel, w_channel, sums);
                        x_channel += 4;
                    } else {
                        sums[0] = depthwise_sum1_f32(&r, x_channel, w_channel);
                        if (++reads == factor) {
                            reads = 0;
                            ++x_channel;
                        }
                    }
                    for (int32_t i = 0; i < count; ++i, ++channel) {
                        const float sum = bias == NULL ? sums[i] : sums[i] + bias[channel];
                        *y++ = ek_clamp_f32(sum, p->clamp_min, p->clamp_max);
                    }
                    w_channel += count;
                }
            }
        }
    }
}
