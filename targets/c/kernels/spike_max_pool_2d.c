/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "spike_max_pool_2d.h"

void EK_FN(spike_max_pool_2d)(
    const ek_spike_max_pool_2d_params *p,
    const int32_t *s,
    int32_t *y)
{
    const ek_pool_shape *const shape = &p->shape;

    for (int32_t n = 0; n < shape->batches; ++n, s += p->set_words) {
        uint32_t bits = 0;
        int32_t filled = 0;
        for (int32_t row = 0; row < shape->y_height; ++row) {
            for (int32_t column = 0; column < shape->y_width; ++column) {
                const ek_pool_window window = ek_pool_locate(shape, 0, row, column);
                for (int32_t channel = 0; channel < shape->channels; ++channel) {
                    if (ek_spike_under(shape, &window, s, channel) > 0) {
                        bits |= (uint32_t)1 << filled;
                    }
                    if (++filled == 32) {
                        *y++ = (int32_t)bits;
                        bits = 0;
                        filled = 0;
                    }
                }
            }
        }
        if (filled > 0) {
            *y++ = (int32_t)bits;
        }
    }
}
