/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "resize_nearest.h"

void EK_FN(resize_nearest)(
    const ek_resize_nearest_params *p,
    const int32_t *rows,
    const int32_t *columns,
    const void *x,
    void *y)
{
    const uint8_t *image = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;

    for (int32_t n = 0; n < p->batches; ++n) {
        for (int32_t r = 0; r < p->height; ++r) {
            const uint8_t *row = image + rows[r] * p->row_bytes;
            for (int32_t c = 0; c < p->width; ++c) {
                memcpy(to, row + columns[c] * p->pixel_bytes, (size_t)p->pixel_bytes);
                to += p->pixel_bytes;
            }
        }
        image += p->image_bytes;
    }
}
