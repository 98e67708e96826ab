/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "pad.h"

/* Write the constant `count` times; returns where y goes on. */
static uint8_t *fill(uint8_t *y, const ek_pad_params *p, int32_t count)
{
    int32_t i;

    switch (p->element_bytes) {
    case 1:
        memset(y, p->value[0], (size_t)count);
        break;
    case 2:
        for (i = 0; i < count; ++i) {
            memcpy(y + 2 * i, p->value, 2);
        }
        break;
    case 4:
        for (i = 0; i < count; ++i) {
            memcpy(y + 4 * i, p->value, 4);
        }
        break;
    default:
        for (i = 0; i < count; ++i) {
            memcpy(y + 8 * i, p->value, 8);
        }
        break;
    }
    return y + count * p->element_bytes;
}

void EK_FN(pad)(const ek_pad_params *p, const void *x, void *y)
{
    enum { LAST = EK_PAD_RANK - 1 };
    const uint8_t *from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    const int32_t row_bytes = p->size[LAST] * p->element_bytes;
    const int32_t padded_row = p->before[LAST] + p->size[LAST] + p->after[LAST];
    int32_t index[LAST]; /* of the row in x, negative in front of it */
    int axis;

    for (axis = 0; axis < LAST; ++axis) {
        index[axis] = -p->before[axis];
    }
    do {
        int inside = 1;
        for (axis = 0; axis < LAST; ++axis) {
            inside = inside && index[axis] >= 0 && index[axis] < p->size[axis];
        }
        if (inside) {
            to = fill(to, p, p->before[LAST]);
            memcpy(to, from, (size_t)row_bytes);
            from += row_bytes;
            to = fill(to + row_bytes, p, p->after[LAST]);
        } else {
            to = fill(to, p, padded_row);
        }
        /* Count up like an odometer: the innermost of the outer axes first. */
        for (axis = LAST - 1; axis >= 0; --axis) {
            if (++index[axis] < p->size[axis] + p->after[axis]) {
                break;
            }
            index[axis] = -p->before[axis];
        }
    } while (axis >= 0);
}
