/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The walk over two operands that broadcast against each other: rows along the last axis, and a
 * cursor that steps from row to row.
 */
#ifndef EK_BROADCAST_H
#define EK_BROADCAST_H

#include "ek_common.h"

enum { EK_BROADCAST_AXES = 5, EK_BROADCAST_LAST = EK_BROADCAST_AXES - 1 };

typedef struct {
    int32_t extent[EK_BROADCAST_AXES]; /* of y, outermost first, 1 where an axis is not needed */
    int32_t a_step[EK_BROADCAST_AXES]; /* elements of a from one index to the next, 0 to repeat */
    int32_t b_step[EK_BROADCAST_AXES];
} ek_broadcast;

typedef struct {
    int32_t index[EK_BROADCAST_LAST];
    int32_t a; /* element where the row begins */
    int32_t b;
} ek_broadcast_cursor;

static inline int32_t ek_broadcast_rows(const ek_broadcast *walk)
{
    int32_t rows = 1;
    for (int32_t axis = 0; axis < EK_BROADCAST_LAST; ++axis) {
        rows *= walk->extent[axis];
    }
    return rows;
}

/* Field by field, since an initialiser would become a call of memset. */
static inline void ek_broadcast_start(ek_broadcast_cursor *at)
{
    at->index[0] = 0;
    at->index[1] = 0;
    at->index[2] = 0;
    at->index[3] = 0;
    at->a = 0;
    at->b = 0;
}

static inline void ek_broadcast_next(const ek_broadcast *walk, ek_broadcast_cursor *at)
{
    for (int32_t axis = EK_BROADCAST_LAST - 1; axis >= 0; --axis) {
        at->a += walk->a_step[axis];
        at->b += walk->b_step[axis];
        at->index[axis] += 1;
        if (at->index[axis] < walk->extent[axis]) {
            return;
        }
        at->a -= walk->a_step[axis] * walk->extent[axis];
        at->b -= walk->b_step[axis] * walk->extent[axis];
        at->index[axis] = 0;
    }
}

#endif /* EK_BROADCAST_H */
