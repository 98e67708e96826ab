/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "copy_strided.h"

/* Copy `count` runs along the innermost axis; returns where y goes on. The sizes of common elements
 * are spelled out, so that the compiler copies them without a call. */
static uint8_t *copy_runs(
    uint8_t *y, const uint8_t *x, int32_t offset, int32_t stride, int32_t count, size_t run)
{
    int32_t i;

    switch (run) {
    case 1:
        for (i = 0; i < count; ++i) {
            *y++ = x[offset];
            offset += stride;
        }
        break;
    case 2:
        for (i = 0; i < count; ++i) {
            memcpy(y, x + offset, 2);
            y += 2;
            offset += stride;
        }
        break;
    case 4:
        for (i = 0; i < count; ++i) {
            memcpy(y, x + offset, 4);
            y += 4;
            offset += stride;
        }
        break;
    default:
        for (i = 0; i < count; ++i) {
            memcpy(y, x + offset, run);
            y += run;
            offset += stride;
        }
        break;
    }
    return y;
}

void EK_FN(copy_strided)(const ek_copy_strided_params *p, const void *x, void *y)
{
    enum { LAST = EK_COPY_STRIDED_RANK - 1 };
    const uint8_t *from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    int32_t index[LAST] = {0};
    int32_t offset = p->offset;
    int axis;

    do {
        to = copy_runs(to, from, offset, p->stride[LAST], p->size[LAST], (size_t)p->run);
        /* Count up like an odometer: the innermost of the outer axes first. */
        for (axis = LAST - 1; axis >= 0; --axis) {
            offset += p->stride[axis];
            if (++index[axis] < p->size[axis]) {
                break;
            }
            offset -= p->stride[axis] * p->size[axis];
            index[axis] = 0;
        }
    } while (axis >= 0);
}
