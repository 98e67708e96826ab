/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sums of the float32 weights of active inputs, eight outputs at a time. Every sum begins with
 * acc + 0, or 0, and adds the weights in ascending order of the input.
 *
 * Weights are stored in blocks of eight outputs, of every input in turn; the last block of a group
 * has four where no more are needed, and numbers that nobody reads behind its outputs.
 */
#ifndef EK_SPIKE_F32_H
#define EK_SPIKE_F32_H

#include "ek_ieee.h"
#include "ek_spike.h"

#define EK_SPIKE_ROOM_F32 64 /* most inputs in a list */
#define EK_SPIKE_BLOCK_F32 8
#define EK_SPIKE_STEP_F32 16 /* bytes of one input in a block of four */

typedef struct {
    int32_t groups;  /* of inputs and outputs that do not touch each other */
    int32_t inputs;  /* of a group */
    int32_t outputs; /* of a group */
    int32_t columns; /* of one input, all blocks of a group: outputs, up to a multiple of four */
} ek_spike_sum_f32;

/* y[i] += weights of the listed inputs, for a block of `width` outputs, 4 or 8. The list is not
 * empty, and a negative number is its end. */
EK_SPIKE_INLINE void ek_spike_block_f32(
    int32_t width, const int32_t *list, const float *w, float *y)
{
    const int32_t scale = width == 8 ? 1 : 0;
    float y0 = y[0];
    float y1 = y[1];
    float y2 = y[2];
    float y3 = y[3];
    float y4 = width == 8 ? y[4] : 0.0f;
    float y5 = width == 8 ? y[5] : 0.0f;
    float y6 = width == 8 ? y[6] : 0.0f;
    float y7 = width == 8 ? y[7] : 0.0f;
    int32_t at = *list;
    do {
        const uint8_t *const row = (const uint8_t *)w + ((uint32_t)at << scale);
        const float *const weights = (const float *)(const void *)row;
        y0 += weights[0];
        y1 += weights[1];
        y2 += weights[2];
        y3 += weights[3];
        if (width == 8) {
            y4 += weights[4];
            y5 += weights[5];
            y6 += weights[6];
            y7 += weights[7];
        }
        at = *++list;
    } while (at >= 0);
    y[0] = y0;
    y[1] = y1;
    y[2] = y2;
    y[3] = y3;
    if (width == 8) {
        y[4] = y4;
        y[5] = y5;
        y[6] = y6;
        y[7] = y7;
    }
}

/* y[o] += weights of the listed inputs, for every output of a group; the list has room for one more
 * than the `found`, 1 at least. */
static inline void ek_spike_add_f32(
    const ek_spike_sum_f32 *p, int32_t *list, int32_t found, const float *w, float *y)
{
    int32_t outputs = p->outputs;

    list[found] = -1;
    for (int32_t columns = p->columns; columns > 0;) {
        const int32_t width = columns >= EK_SPIKE_BLOCK_F32 ? EK_SPIKE_BLOCK_F32 : 4;
        float edge[EK_SPIKE_BLOCK_F32];
        float *const to = outputs < width ? edge : y;
        if (to == edge) {
            for (int32_t i = 0; i < width; ++i) {
                edge[i] = i < outputs ? y[i] : 0.0f;
            }
        }
        if (width == EK_SPIKE_BLOCK_F32) {
            ek_spike_block_f32(EK_SPIKE_BLOCK_F32, list, w, to);
        } else {
            ek_spike_block_f32(4, list, w, to);
        }
        if (to == edge) {
            for (int32_t i = 0; i < outputs; ++i) {
                y[i] = edge[i];
            }
        }
        columns -= width;
        outputs -= width;
        w += width * p->inputs;
        y += width;
    }
}

/* y[i] = acc[i] + 0, or 0 where acc is NULL. */
static inline void ek_spike_start_f32(const float *acc, int32_t count, float *y)
{
    for (int32_t i = 0; i < count; ++i) {
        y[i] = acc == NULL ? 0.0f : acc[i] + 0.0f;
    }
}

#endif /* EK_SPIKE_F32_H */
