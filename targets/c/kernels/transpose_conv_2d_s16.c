/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "transpose_conv_2d_s16.h"

#include "ek_dot_s16.h"

/* Sums of the next four output channels, or of one where fewer are left. Returns how many. */
static int32_t transpose_conv_2d_sum_s16(
    const ek_transpose_taps *t, const int16_t *x, const int8_t *w, int32_t left, int64_t *sums)
{
    const int32_t channels = left < 4 ? 1 : 4;

    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    for (int32_t row = 0; row < t->rows; ++row) {
        for (int32_t column = 0; column < t->columns; ++column) {
            const int16_t *x_tap = x - row * t->x_row - column * t->x_column;
            const int8_t *w_tap = w + row * t->w_row + column * t->w_column;
            if (channels == 4) {
                ek_dot4_s16(x_tap, w_tap, t->filter, t->depth, sums);
            } else {
                sums[0] += ek_dot_s16(x_tap, w_tap, t->depth);
            }
        }
    }
    return channels;
}

void EK_FN(transpose_conv_2d_s16)(
    const ek_transpose_conv_2d_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int64_t *bias,
    const int16_t *multiplier,
    const int8_t *shift,
    int16_t *y)
{
    const ek_transpose_channels *s = &p->shape;
    const ek_transpose_axis *height = &p->height;
    const ek_transpose_axis *width = &p->width;
    const int32_t x_line = width->inputs * s->channels;
    const int32_t y_depth = s->y_channels / s->groups;
    ek_transpose_taps t = ek_transpose_steps(s, height, width);

    for (int32_t n = 0; n < s->batches; ++n, x += height->inputs * x_line) {
        for (int32_t y_row = 0; y_row < height->outputs; ++y_row) {
            const ek_transpose_reach rows = ek_transpose_locate(height, y_row);
            for (int32_t y_column = 0; y_column < width->outputs; ++y_column) {
                const ek_transpose_reach columns = ek_transpose_locate(width, y_column);
                const int16_t *x_group = x;
                const int8_t *w_channel = w;
                int32_t left = y_depth;

                t.rows = rows.count;
                t.columns = columns.count;
                if (rows.count > 0 && columns.count > 0) {
                    x_group += rows.input * x_line + columns.input * s->channels;
                    w_channel += (rows.tap * width->taps + columns.tap) * t.depth;
                }
                for (int32_t channel = 0; channel < s->y_channels;) {
                    int64_t sums[4];
                    const int32_t count =
                        transpose_conv_2d_sum_s16(&t, x_group, w_channel, left, sums);

                    for (int32_t i = 0; i < count; ++i, ++channel) {
                        const int64_t offset = bias == NULL ? 0 : bias[channel];
                        const int32_t scaled = ek_requantize_wide(
                            ek_add_wrap_s64(sums[i], offset), multiplier[channel], shift[channel]);
                        *y++ = (int16_t)ek_clamp_s32(scaled, p->clamp_min, p->clamp_max);
                    }
                    w_channel += count * t.filter;
                    left -= count;
                    if (left == 0) {
                        left = y_depth;
                        x_group += t.depth;
                    }
                }
            }
        }
    }
}
