/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Windows of the pooling kernels.
 */
#ifndef EK_POOL_H
#define EK_POOL_H

#include "ek_common.h"

/* Shapes x[N,H,W,C] and y[N,YH,YW,C]. Every window holds at least one element of x. */
typedef struct {
    int32_t batches;
    int32_t height;
    int32_t width;
    int32_t channels;
    int32_t y_height;
    int32_t y_width;
    int32_t kernel_height;
    int32_t kernel_width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t pad_top;
    int32_t pad_left;
} ek_pool_shape;

/* The part of a window that lies in x. */
typedef struct {
    int32_t offset;  /* of its first element, channel 0 */
    int32_t rows;    /* 1 or more */
    int32_t columns; /* 1 or more */
} ek_pool_window;

static inline ek_pool_window ek_pool_locate(
    const ek_pool_shape *s, int32_t n, int32_t y_row, int32_t y_column)
{
    const int32_t row = y_row * s->stride_height - s->pad_top;
    const int32_t column = y_column * s->stride_width - s->pad_left;
    const int32_t first_row = ek_max_s32(row, 0);
    const int32_t first_column = ek_max_s32(column, 0);
    ek_pool_window window;

    window.offset = ((n * s->height + first_row) * s->width + first_column) * s->channels;
    window.rows = ek_min_s32(row + s->kernel_height, s->height) - first_row;
    window.columns = ek_min_s32(column + s->kernel_width, s->width) - first_column;
    return window;
}

/* sum / count, halves away from zero; |sum| + count / 2 must fit. */
static inline int32_t ek_divide_rounded(int32_t sum, int32_t count)
{
    return sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count;
}

#endif /* EK_POOL_H */
