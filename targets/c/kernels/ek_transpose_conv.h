/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Which taps of a transposed convolution reach an output.
 */
#ifndef EK_TRANSPOSE_CONV_H
#define EK_TRANSPOSE_CONV_H

#include "ek_common.h"

/* One axis, height or width. Tap k adds input i to output i * stride + k * dilation - pad. With
 * g the greatest common divisor of stride and dilation, taps that reach one output lie
 * tap_step = stride / g apart; their inputs lie input_step = dilation / g apart, descending. */
typedef struct {
    int32_t inputs;
    int32_t outputs;
    int32_t taps;
    int32_t stride;
    int32_t dilation;
    int32_t pad;
    int32_t tap_step;
    int32_t input_step;
} ek_transpose_axis;

/* The other axes of x[N,H,W,C] and y[N,YH,YW,YC]. */
typedef struct {
    int32_t batches;
    int32_t channels;
    int32_t y_channels;
    int32_t groups; /* divides C and YC */
} ek_transpose_channels;

/* The taps that reach an output: tap + j * tap_step reads input - j * input_step, j < count. */
typedef struct {
    int32_t tap;
    int32_t input;
    int32_t count;
} ek_transpose_reach;

static inline ek_transpose_reach ek_transpose_locate(const ek_transpose_axis *a, int32_t output)
{
    const int32_t position = output + a->pad;
    ek_transpose_reach reach = {0, 0, 0};
    int32_t tap = 0;
    int32_t input;

    /* One of the first tap_step taps meets the grid of the inputs, or none does. */
    while (tap < a->tap_step && (position - tap * a->dilation) % a->stride != 0) {
        ++tap;
    }
    if (tap == a->tap_step) {
        return reach;
    }
    input = (position - tap * a->dilation) / a->stride;
    while (input >= a->inputs) {
        tap += a->tap_step;
        input -= a->input_step;
    }
    reach.tap = tap;
    reach.input = input;
    for (; tap < a->taps && input >= 0; tap += a->tap_step) {
        input -= a->input_step;
        ++reach.count;
    }
    return reach;
}

/* The taps that reach a pixel of y, and the steps from tap to tap; those in x lead back. */
typedef struct {
    int32_t rows;
    int32_t columns;
    int32_t depth; /* channels that a tap sums over */
    int32_t x_row;
    int32_t x_column;
    int32_t w_row;
    int32_t w_column;
    int32_t filter; /* weights of an output channel */
} ek_transpose_taps;

/* The steps of every pixel. Rows and columns are still 0. */
static inline ek_transpose_taps ek_transpose_steps(
    const ek_transpose_channels *s, const ek_transpose_axis *height, const ek_transpose_axis *width)
{
    ek_transpose_taps t = {0, 0, 0, 0, 0, 0, 0, 0};

    t.depth = s->channels / s->groups;
    t.x_row = height->input_step * width->inputs * s->channels;
    t.x_column = width->input_step * s->channels;
    t.w_row = height->tap_step * width->taps * t.depth;
    t.w_column = width->tap_step * t.depth;
    t.filter = height->taps * width->taps * t.depth;
    return t;
}

#endif /* EK_TRANSPOSE_CONV_H */
