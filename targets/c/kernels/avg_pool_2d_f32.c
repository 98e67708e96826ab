/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "avg_pool_2d_f32.h"

void EK_FN(avg_pool_2d_f32)(const ek_avg_pool_2d_f32_params *p, const float *x, float *y)
{
    const ek_pool_shape *s = &p->shape;
    const int32_t row_step = s->width * s->channels;

    for (int32_t n = 0; n < s->batches; ++n) {
        for (int32_t y_row = 0; y_row < s->y_height; ++y_row) {
            for (int32_t y_column = 0; y_column < s->y_width; ++y_column) {
                const ek_pool_window window = ek_pool_locate(s, n, y_row, y_column);
                const int32_t count = window.rows * window.columns;
                const float divisor = p->divisor > 0.0f ? p->divisor : (float)count;
                for (int32_t channel = 0; channel < s->channels; ++channel) {
                    int32_t row = window.offset + channel;
                    float total = 0.0f;
                    for (int32_t r = 0; r < window.rows; ++r) {
                        int32_t index = row;
                        for (int32_t c = 0; c < window.columns; ++c) {
                            total += x[index];
                            index += s->channels;
                        }
                        row += row_step;
                    }
                    *y++ = ek_clamp_f32(total / divisor, p->clamp_min, p->clamp_max);
                }
            }
        }
    }
}
