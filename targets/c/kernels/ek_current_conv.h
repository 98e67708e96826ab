/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolutions of samples as dense sums over what lies under the window, copied to one row.
 */
#ifndef EK_CURRENT_CONV_H
#define EK_CURRENT_CONV_H

#include "ek_spike_conv_window.h"

typedef struct {
    int32_t groups;
    int32_t inputs;  /* of the sum of a group */
    int32_t outputs; /* of a group */
} ek_current_groups;

/* Copy what lies under the window, of the channels from `channel` on, to a row of `inputs` elements
 * of `size` bytes; `fill` is what each byte of the border is. */
static inline void ek_current_gather(
    const ek_spike_place *place,
    int32_t inputs,
    int32_t channel,
    const void *x,
    int32_t size,
    int32_t fill,
    void *row)
{
    const ek_convolution_runs *const r = &place->runs;
    const uint8_t *const from = x;
    uint8_t *const to = row;

    memset(to, fill, (size_t)(inputs * size));
    for (int32_t i = 0; i < r->rows; ++i) {
        for (int32_t k = 0; k < r->runs; ++k) {
            const int32_t first = place->first + channel + i * r->x_row + k * r->x_run;
            const int32_t input = place->first_tap + i * r->w_row + k * r->w_run;
            memcpy(to + input * size, from + first * size, (size_t)(r->count * size));
        }
    }
}

#endif /* EK_CURRENT_CONV_H */
