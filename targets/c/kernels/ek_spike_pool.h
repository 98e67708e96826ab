/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Windows of pools over bit sets.
 */
#ifndef EK_SPIKE_POOL_H
#define EK_SPIKE_POOL_H

#include "ek_pool.h"
#include "ek_spike.h"

/* How many neurons of a channel under a window are active. */
static inline int32_t ek_spike_under(
    const ek_pool_shape *shape, const ek_pool_window *window, const int32_t *s, int32_t channel)
{
    int32_t active = 0;

    for (int32_t row = 0; row < window->rows; ++row) {
        int32_t i = window->offset + row * shape->width * shape->channels + channel;
        for (int32_t column = 0; column < window->columns; ++column) {
            active += (int32_t)((uint32_t)s[i >> 5] >> (i & 31) & 1u);
            i += shape->channels;
        }
    }
    return active;
}

#endif /* EK_SPIKE_POOL_H */
