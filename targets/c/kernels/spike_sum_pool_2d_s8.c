/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_sum_pool_2d_s8.h"

void EK_FN(spike_sum_pool_2d_s8)(
    const ek_spike_sum_pool_2d_s8_params *p,
    const int32_t *s,
    int8_t *y)
{
    const ek_pool_shape *const shape = &p->shape;

    for (int32_t n = 0; n < shape->batches; ++n, s += p->set_words) {
        for (int32_t row = 0; row < shape->y_height; ++row) {
            for (int32_t column = 0; column < shape->y_width; ++column) {
                const ek_pool_window window = ek_pool_locate(shape, 0, row, column);
                for (int32_t channel = 0; channel < shape->channels; ++channel) {
                    *y++ = (int8_t)ek_spike_under(shape, &window, s, channel);
                }
            }
        }
    }
}
