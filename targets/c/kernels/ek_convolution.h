/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Windows of the convolution kernels.
 */
#ifndef EK_CONVOLUTION_H
#define EK_CONVOLUTION_H

#include "ek_common.h"

/* Shapes x[N,H,W,C] and y[N,YH,YW,YC], and how the kernel slides. */
typedef struct {
    int32_t batches;
    int32_t height;
    int32_t width;
    int32_t channels;
    int32_t y_height;
    int32_t y_width;
    int32_t y_channels;
    int32_t kernel_height;
    int32_t kernel_width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t dilation_height;
    int32_t dilation_width;
    int32_t pad_top;
    int32_t pad_left;
} ek_convolution_shape;

/* The taps of a window that lie in x, a rectangle of the kernel. Zero rows or columns: none. */
typedef struct {
    int32_t offset; /* of the first one's value in x, channel 0 */
    int32_t tap;    /* its number, row of the kernel * kernel_width + column */
    int32_t rows;
    int32_t columns;
} ek_convolution_window;

/* A window as runs of values, neighbours in memory, and the steps between them. */
typedef struct {
    int32_t rows;
    int32_t runs;  /* in a row */
    int32_t count; /* values in a run */
    int32_t x_row; /* steps from row to row, from run to run */
    int32_t x_run;
    int32_t w_row;
    int32_t w_run;
} ek_convolution_runs;

/* Taps first...first + count - 1, tap i at start + i * dilation, are those within 0...size - 1. */
typedef struct {
    int32_t first;
    int32_t count;
} ek_convolution_span;

static inline ek_convolution_span ek_convolution_clip(
    int32_t start, int32_t size, int32_t taps, int32_t dilation)
{
    ek_convolution_span span;
    int32_t last = start + (taps - 1) * dilation;

    span.first = 0;
    span.count = taps;
    for (; start < 0 && span.count > 0; start += dilation) {
        ++span.first;
        --span.count;
    }
    for (; last >= size && span.count > 0; last -= dilation) {
        --span.count;
    }
    return span;
}

static inline ek_convolution_window ek_convolution_locate(
    const ek_convolution_shape *s, int32_t n, int32_t y_row, int32_t y_column)
{
    const int32_t row = y_row * s->stride_height - s->pad_top;
    const int32_t column = y_column * s->stride_width - s->pad_left;
    const ek_convolution_span rows =
        ek_convolution_clip(row, s->height, s->kernel_height, s->dilation_height);
    const ek_convolution_span columns =
        ek_convolution_clip(column, s->width, s->kernel_width, s->dilation_width);
    ek_convolution_window window = {0, 0, 0, 0};

    if (rows.count > 0 && columns.count > 0) {
        const int32_t x_row = n * s->height + row + rows.first * s->dilation_height;
        const int32_t x_column = column + columns.first * s->dilation_width;
        window.offset = (x_row * s->width + x_column) * s->channels;
        window.tap = rows.first * s->kernel_width + columns.first;
        window.rows = rows.count;
        window.columns = columns.count;
    }
    return window;
}

/* The steps of every window; tap: weights from one tap to the next. Rows and runs are still 0. */
static inline ek_convolution_runs ek_convolution_steps(const ek_convolution_shape *s, int32_t tap)
{
    ek_convolution_runs r = {0, 0, 0, 0, 0, 0, 0};

    r.x_row = s->dilation_height * s->width * s->channels;
    r.x_run = s->dilation_width * s->channels;
    r.w_row = s->kernel_width * tap;
    r.w_run = tap;
    return r;
}

/* Every tap of the window is a run of `depth` values, but where tap follows upon tap in memory
 * (`whole_rows`: no groups, no dilation) a row is one run. */
static inline void ek_convolution_enter(
    ek_convolution_runs *r, const ek_convolution_window *window, int32_t depth, int32_t whole_rows)
{
    r->rows = window->rows;
    r->runs = whole_rows ? 1 : window->columns;
    r->count = whole_rows ? window->columns * depth : depth;
}

#endif /* EK_CONVOLUTION_H */
