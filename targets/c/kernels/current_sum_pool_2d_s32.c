/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "current_sum_pool_2d_s32.h"

void EK_FN(current_sum_pool_2d_s32)(
    const ek_current_sum_pool_2d_s32_params *p, const int32_t *x, int32_t *y)
{
    const ek_pool_shape *s = &p->shape;
    const int32_t row_step = s->width * s->channels;

    for (int32_t n = 0; n < s->batches; ++n) {
        for (int32_t y_row = 0; y_row < s->y_height; ++y_row) {
            for (int32_t y_column = 0; y_column < s->y_width; ++y_column) {
                const ek_pool_window window = ek_pool_locate(s, n, y_row, y_column);
                for (int32_t channel = 0; channel < s->channels; ++channel) {
                    int32_t row = window.offset + channel;
                    uint32_t sum = 0;
                    for (int32_t r = 0; r < window.rows; ++r) {
                        int32_t index = row;
                        for (int32_t c = 0; c < window.columns; ++c) {
                            sum += (uint32_t)x[index];
                            index += s->channels;
                        }
                        row += row_step;
                    }
                    *y++ = (int32_t)sum;
                }
            }
        }
    }
}
