/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sums of the weights of active inputs, for all outputs of a group: block by block.
 */
#ifndef EK_SPIKE_SUM_H
#define EK_SPIKE_SUM_H

#include "ek_spike_block.h"

typedef struct {
    int32_t groups;  /* of inputs and outputs that do not touch each other */
    int32_t inputs;  /* of a group */
    int32_t outputs; /* of a group */
    int32_t words;   /* of one input, all blocks of a group */
    int32_t room;    /* inputs that the lanes take, EK_SPIKE_ROOM at most */
    int32_t offset;  /* field = level + offset */
    int32_t mask;    /* of the lowest field of every lane. A number of the source would be loaded
                      * anew at every use; this one stays in a register. */
} ek_spike_sum;

/* y[i] = from[i] for i < count; from may be NULL, for 0, or y. */
static inline void ek_spike_copy(const int32_t *from, int32_t count, int32_t *y)
{
    if (from == NULL) {
        memset(y, 0, (size_t)count * sizeof(*y));
    } else if (from != y) {
        memcpy(y, from, (size_t)count * sizeof(*y));
    }
}

/* The outputs behind the largest blocks of a group, fewer than those of one: blocks of two words,
 * then of one; the last word may have fields that belong to no output. */
static inline void ek_spike_add_rest(
    const ek_spike_sum *p,
    int32_t field,
    int32_t outputs,
    const int32_t *list,
    const uint32_t *w,
    const int32_t *from,
    int32_t start,
    int32_t *y)
{
    const int32_t fields = field == EK_SPIKE_FIELD_8 ? 4 : (field == EK_SPIKE_FIELD_2 ? 16 : 8);
    const int32_t whole = outputs % fields == 0;
    int32_t rest[EK_SPIKE_MOST_OUTPUTS];
    int32_t words = (outputs + fields - 1) / fields;
    int32_t *to = whole ? y : rest;

    if (!whole) {
        memcpy(rest, from, (size_t)outputs * sizeof(*y));
        memset(rest + outputs, 0, (size_t)(words * fields - outputs) * sizeof(*y));
        from = rest;
    }
    for (; words >= 2; words -= 2) {
        ek_spike_block(field, 2, list, w, (uint32_t)p->mask, from, start, to);
        w += 2 * p->inputs;
        from += 2 * fields;
        to += 2 * fields;
    }
    if (words >= 1) {
        ek_spike_block(field, 1, list, w, (uint32_t)p->mask, from, start, to);
    }
    if (!whole) {
        memcpy(y, rest, (size_t)outputs * sizeof(*y));
    }
}

/* y[o] = from[o] + sum of the weights of the listed inputs, for every output o of a group.
 *
 * list: EK_SPIKE_STEP times the number of the input, `found` of them, room for one more. w: of the
 * group. from: y, or where the sums begin, or NULL for 0. */
static inline void ek_spike_add(
    const ek_spike_sum *p,
    int32_t field,
    int32_t *list,
    int32_t found,
    const uint32_t *w,
    const int32_t *from,
    int32_t *y)
{
    const int32_t width = field == EK_SPIKE_FIELD_8 || field == EK_SPIKE_FIELD_4 ? 4 : 2;
    const int32_t fields = field == EK_SPIKE_FIELD_8 ? 4 : (field == EK_SPIKE_FIELD_2 ? 16 : 8);
    const int32_t start = found * p->offset;
    const int32_t w_step = width * p->inputs;
    static const int32_t zeros[EK_SPIKE_MOST_OUTPUTS];
    const int32_t from_step = from == NULL ? 0 : width * fields;
    int32_t outputs = p->outputs;

    if (found == 0) {
        ek_spike_copy(from, outputs, y);
        return;
    }
    list[found] = -1;
    if (from == NULL) {
        from = zeros;
    }
    for (; outputs >= width * fields; outputs -= width * fields) {
        ek_spike_block(field, width, list, w, (uint32_t)p->mask, from, start, y);
        w += w_step;
        from += from_step;
        y += width * fields;
    }
    if (outputs > 0) {
        ek_spike_add_rest(p, field, outputs, list, w, from, start, y);
    }
}

#endif /* EK_SPIKE_SUM_H */
