/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Convolutions with coded weights: one filter over a block of output pixels.
 *
 * Every tile of the filter is decoded once for up to EK_PIXELS pixels of an image; four neighbours
 * at a time share its loads. Neighbours lie along the longer side of the image.
 */
#ifndef EK_CODED_CONVOLUTION_H
#define EK_CODED_CONVOLUTION_H

#include "ek_coded.h"
#include "ek_convolution.h"
#include "ek_requantize_float64.h"
#include "ek_sum.h"

#define EK_PIXELS 64

/* What holds a total, as narrow as the Program's bounds allow. */
#if EK_CODED_INT64_TOTALS
typedef int64_t ek_total;
#else
typedef int32_t ek_total;
#endif

/* How the weights of one filter lie over x. */
typedef struct {
    const ek_convolution_shape *shape;
    int32_t tap;    /* weights of a tap: channels of a group, or 1 */
    int32_t joined; /* a row of the filter is evenly spaced in x: a tile may span taps */
    int32_t zero_point;
} ek_filter;

/* Decoded weights: rows * run of them, from (row, first) of the filter on. A tile of more than one
 * row has whole ones. */
typedef struct {
    int32_t row;
    int32_t rows;
    int32_t first; /* within a row of the filter */
    int32_t run;
    int32_t tap;    /* the one that holds first */
    int32_t taps;   /* that a row of the tile touches */
    int32_t offset; /* in x, of first from where its row of the filter begins */
    int32_t factor;
    int32_t sum; /* of all weights */
} ek_tile;

/* Consecutive pixels of one image, counted along its lines. */
typedef struct {
    int32_t line;
    int32_t position;
    int32_t count;
} ek_block;

/* The part of a tile whose taps lie within x, for one pixel; none where rows or run is not
 * positive. */
typedef struct {
    int32_t row; /* within the tile */
    int32_t rows;
    int32_t row_offset; /* of the first row in x */
    int32_t first;      /* within a row of the tile */
    int32_t run;
    int32_t offset; /* of the first value in its row of x */
} ek_part;

/* Whether lines are columns. */
static inline int32_t ek_lines_down(const ek_convolution_shape *s)
{
    return s->y_height > s->y_width;
}

/* Rows of the part, for a filter that begins at a row of x. */
static inline void ek_clip_rows(const ek_filter *f, const ek_tile *t, int32_t x_row, ek_part *part)
{
    const ek_convolution_shape *s = f->shape;
    const int32_t start = x_row + t->row * s->dilation_height;
    const ek_convolution_span rows =
        ek_convolution_clip(start, s->height, t->rows, s->dilation_height);
    part->row = rows.first;
    part->rows = rows.count;
    part->row_offset = (start + rows.first * s->dilation_height) * s->width * s->channels;
}

/* Run of the part, for a filter that begins at a column of x. */
EK_CODED_INLINE void ek_clip_columns(
    const ek_filter *f, const ek_tile *t, int32_t step, int32_t x_column, ek_part *part)
{
    const ek_convolution_shape *s = f->shape;
    const ek_convolution_span columns = ek_convolution_clip(
        x_column + t->tap * s->dilation_width, s->width, t->taps, s->dilation_width);
    const int32_t before = (t->tap + columns.first) * f->tap - t->first;
    part->first = ek_max_s32(before, 0);
    part->run = ek_min_s32(before + columns.count * f->tap, t->run) - part->first;
    part->offset = x_column * s->channels + t->offset + part->first * step;
}

/* sums[i] += products of a part with the values at x + i * distance. */
EK_CODED_INLINE void ek_part_sum4(
    const int8_t *x,
    int32_t distance,
    int32_t step,
    int32_t x_row,
    const ek_narrow *w,
    int32_t w_row,
    const ek_part *part,
    int32_t *sums)
{
    const int32_t run = part->run;
    int32_t sum0 = 0;
    int32_t sum1 = 0;
    int32_t sum2 = 0;
    int32_t sum3 = 0;
    for (int32_t row = part->rows; row > 0; --row) {
        const int8_t *x1 = x + distance;
        const int8_t *x2 = x1 + distance;
        const int8_t *x3 = x2 + distance;
        int32_t place = 0;
        for (int32_t i = 0; i < run; ++i) {
            const int32_t value = w[i];
            sum0 += x[place] * value;
            sum1 += x1[place] * value;
            sum2 += x2[place] * value;
            sum3 += x3[place] * value;
            place += step;
        }
        x += x_row;
        w += w_row;
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

/* The same for one pixel, less the zero point. */
EK_CODED_INLINE int32_t ek_part_sum(
    const int8_t *x,
    int32_t zero_point,
    int32_t step,
    int32_t x_row,
    const ek_narrow *w,
    int32_t w_row,
    const ek_part *part)
{
    const int32_t run = part->run;
    int32_t sum = 0;
    for (int32_t row = part->rows; row > 0; --row) {
        const int8_t *value = x;
        const ek_narrow *weight = w;
        for (const ek_narrow *const end = w + run; weight != end; value += step) {
            sum += (*value - zero_point) * *weight++;
        }
        x += x_row;
        w += w_row;
    }
    return sum;
}

/* Sum of the weights of a part. */
static inline int32_t ek_part_weights(const ek_narrow *w, int32_t w_row, const ek_part *part)
{
    int32_t sum = 0;
    for (int32_t row = part->rows; row > 0; --row, w += w_row) {
        for (int32_t i = 0; i < part->run; ++i) {
            sum += w[i];
        }
    }
    return sum;
}

/* Of `left` pixels, those that four together can do next: 4, or 2 or 3 where fewer are left before
 * the border, `done` in front of them are done, and repeating one or two of these costs less. */
static inline int32_t ek_line_next(
    int32_t left, int32_t done, int32_t moving, int32_t stride, int32_t high)
{
    int32_t count = 0;
    while (count < 4 && count < left && moving < high) {
        ++count;
        moving += stride;
    }
    return count == 4 || (count >= 2 && done + count >= 4) ? count : 0;
}

/* Add a tile's products with the pixels of one line to their totals; x is the filter's first
 * channel in the image. Where the taps of four pixels lie within x they are done together, and the
 * zero point is subtracted as many times as the weights say. */
EK_CODED_INLINE void ek_tile_line(
    const ek_filter *f,
    const ek_tile *t,
    const ek_narrow *tile,
    const int8_t *x,
    int32_t step,
    const ek_block *line,
    ek_total *totals)
{
    const ek_convolution_shape *s = f->shape;
    const int32_t x_row = s->dilation_height * s->width * s->channels;
    const int32_t down = ek_lines_down(s);
    const int32_t row = (down ? line->position : line->line) * s->stride_height - s->pad_top;
    const int32_t column = (down ? line->line : line->position) * s->stride_width - s->pad_left;
    const int32_t stride = down ? s->stride_height : s->stride_width;
    const int32_t distance = stride * s->channels * (down ? s->width : 1);
    /* Which of the moving coordinates keep all taps within x. */
    const int32_t taps = down ? t->rows : t->taps;
    const int32_t dilation = down ? s->dilation_height : s->dilation_width;
    const int32_t low = -(down ? t->row : t->tap) * dilation;
    const int32_t high = (down ? s->height : s->width) + low - (taps - 1) * dilation;
    int32_t moving = down ? row : column;
    ek_part whole = {0, t->rows, 0, 0, t->run, 0}; /* along the line nothing is cut off */
    ek_part part;

    if (down) {
        ek_clip_columns(f, t, step, column, &whole);
    } else {
        ek_clip_rows(f, t, row, &whole);
    }
    if (whole.rows <= 0 || whole.run <= 0) {
        return;
    }
    const ek_narrow *const whole_w = tile + whole.row * t->run + whole.first;
    const int32_t cut = whole.rows != t->rows || whole.run != t->run;
    const int32_t zero =
        f->zero_point * (cut ? ek_part_weights(whole_w, t->run, &whole) : t->sum);

    for (int32_t left = line->count; left > 0;) {
        int32_t done = 0;
        int32_t count = moving < low ? 0 : ek_line_next(left, 0, moving, stride, high);
        if (count == 0) {
            part = whole;
            if (down) {
                ek_clip_rows(f, t, moving, &part);
            } else {
                ek_clip_columns(f, t, step, moving, &part);
            }
            if (part.rows > 0 && part.run > 0) {
                const int32_t sum = ek_part_sum(
                    x + part.row_offset + part.offset, f->zero_point, step, x_row,
                    tile + part.row * t->run + part.first, t->run, &part);
                *totals += (ek_total)t->factor * sum;
            }
            moving += stride;
            ++totals;
            --left;
            continue;
        }
        if (down) {
            whole.row_offset = (moving - low) * s->width * s->channels;
        } else {
            whole.offset = moving * s->channels + t->offset;
        }
        const int8_t *x_whole = x + whole.row_offset + whole.offset;
        do {
            int32_t sums[4];
            x_whole -= (4 - count) * distance;
            ek_part_sum4(x_whole, distance, step, x_row, whole_w, t->run, &whole, sums);
            for (int32_t i = 4 - count; i < 4; ++i) {
                *totals++ += (ek_total)t->factor * (sums[i] - zero);
            }
            x_whole += 4 * distance;
            moving += count * stride;
            left -= count;
            done += count;
            count = ek_line_next(left, done, moving, stride, high);
        } while (count != 0);
    }
}

/* The same for levels beyond int16, pixel by pixel in int64. */
static void ek_tile_line_wide(
    const ek_filter *f,
    const ek_tile *t,
    const ek_wide *tile,
    const int8_t *x,
    int32_t step,
    const ek_block *line,
    ek_total *totals)
{
    const ek_convolution_shape *s = f->shape;
    const int32_t down = ek_lines_down(s);
    ek_part part;

    for (int32_t i = 0; i < line->count; ++i) {
        const int32_t position = line->position + i;
        const int32_t y_row = down ? position : line->line;
        const int32_t y_column = down ? line->line : position;
        ek_clip_rows(f, t, y_row * s->stride_height - s->pad_top, &part);
        ek_clip_columns(f, t, step, y_column * s->stride_width - s->pad_left, &part);
        for (int32_t row = 0; row < part.rows; ++row) {
            const int32_t below = row * s->dilation_height * s->width * s->channels;
            const int8_t *value = x + part.row_offset + below + part.offset;
            const ek_wide *w = tile + (part.row + row) * t->run + part.first;
            int64_t sum = 0;
            for (int32_t k = 0; k < part.run; ++k, value += step) {
                sum += (int64_t)(*value - f->zero_point) * w[k];
            }
            totals[i] += (ek_total)(t->factor * sum);
        }
    }
}

/* Add one decoded tile's products to the totals of a block. */
EK_CODED_INLINE void ek_tile_block(
    const ek_filter *f,
    const ek_coded *w,
    int32_t channel,
    ek_tile *t,
    const int8_t *x,
    int32_t step,
    const ek_block *block,
    ek_total *totals)
{
    const ek_convolution_shape *s = f->shape;
    const int32_t length = ek_lines_down(s) ? s->y_height : s->y_width;
    const int32_t first = t->row * s->kernel_width * f->tap + t->first;
    const int32_t count = t->rows * t->run;
    ek_block line = *block;
    union {
        ek_narrow narrow[EK_TILE];
        ek_wide wide[EK_CODED_WIDE ? EK_TILE : 1];
    } tile;

    if (EK_CODED_WIDE && w->coding->wide) {
        ek_coded_decode_wide(w, channel, first, count, tile.wide);
    } else {
        ek_coded_decode(w, channel, first, count, tile.narrow);
        const ek_part all = {0, 1, 0, 0, count, 0};
        t->sum = ek_part_weights(tile.narrow, 0, &all);
    }
    for (int32_t left = block->count; left > 0; left -= line.count) {
        line.count = ek_min_s32(left, length - line.position);
        if (EK_CODED_WIDE && w->coding->wide) {
            ek_tile_line_wide(f, t, tile.wide, x, step, &line, totals);
        } else {
            ek_tile_line(f, t, tile.narrow, x, step, &line, totals);
        }
        totals += line.count;
        ++line.line;
        line.position = 0;
    }
}

/* totals[i] += products of a channel's filter with pixel i of a block. x is the image, from the
 * filter's first channel on; step the distance in x from one weight of a tile's row to the next,
 * constant where this is inlined for channels that are neighbours. */
EK_CODED_INLINE void ek_filter_block(
    const ek_filter *f,
    const ek_coded *w,
    int32_t channel,
    const int8_t *x,
    int32_t step,
    const ek_block *block,
    ek_total *totals)
{
    const ek_convolution_shape *s = f->shape;
    const int32_t row_length = s->kernel_width * f->tap;
    int32_t group = 0;
    int32_t left = w->coding->group; /* weights of the group */
    ek_tile t = {0, 0, 0, 0, 0, 0, 0, 0, 0};

    while (t.row < s->kernel_height) {
        const int32_t room = ek_min_s32(left, EK_TILE);
        t.rows = 1;
        t.run = ek_min_s32(room, row_length - t.first);
        if (f->joined) {
            while (t.run == row_length && (t.rows + 1) * row_length <= room
                   && t.row + t.rows < s->kernel_height) {
                ++t.rows;
            }
        } else {
            t.run = ek_min_s32(t.run, (t.tap + 1) * f->tap - t.first);
        }
        t.taps = f->tap == 1 ? t.run : (t.first + t.run - 1) / f->tap - t.tap + 1;
        t.offset = f->joined ? t.first * step
                             : t.tap * s->dilation_width * s->channels + t.first - t.tap * f->tap;
        t.factor = ek_coded_factor(w, channel, group);
        if (t.factor != 0) {
            ek_tile_block(f, w, channel, &t, x, step, block, totals);
        }
        left -= t.rows * t.run;
        if (left == 0) {
            left = w->coding->group;
            ++group;
        }
        t.first += t.run;
        if (t.first == row_length) {
            t.row += t.rows;
            t.first = 0;
        }
        t.tap = f->tap == 1 ? t.first : t.first / f->tap;
    }
}

/* The block behind `block`, of EK_PIXELS at most; a count of 0 at the end of the image. Begins
 * with {0, 0, 0}. */
static inline void ek_block_next(const ek_convolution_shape *s, ek_block *block)
{
    const int32_t down = ek_lines_down(s);
    const int32_t length = down ? s->y_height : s->y_width;
    const int32_t lines = down ? s->y_width : s->y_height;

    block->position += block->count;
    while (block->position >= length) {
        block->position -= length;
        ++block->line;
    }
    const int32_t left = block->line < lines
        ? (lines - block->line) * length - block->position : 0;
    block->count = ek_min_s32(left, EK_PIXELS);
}

/* Sets the totals of a block to the channel's bias. */
static inline void ek_block_start(
    const ek_block *block,
    const void *bias,
    int32_t int64_totals,
    int32_t channel,
    ek_total *totals)
{
    const ek_total start = (ek_total)ek_coded_bias(bias, int64_totals, channel);
    for (int32_t i = 0; i < block->count; ++i) {
        totals[i] = start;
    }
}

/* How a channel's totals become int8. */
typedef struct {
    int32_t int64_totals; /* rounded float64 with an int64 multiplier; single with an int32 one */
    int32_t zero_point;
    int32_t clamp_min;
    int32_t clamp_max;
    const void *multiplier;
    const int8_t *shift;
} ek_output;

/* Turns totals into outputs, in place. */
EK_CODED_APART void ek_block_requantize(
    const ek_output *o, int32_t channel, int32_t count, ek_total *totals)
{
    const int32_t shift = o->shift[channel];
    if (EK_CODED_INT64_TOTALS && o->int64_totals) {
        const int64_t multiplier = ((const int64_t *)o->multiplier)[channel];
        for (ek_total *const end = totals + count; totals != end; ++totals) {
            const int32_t scaled = ek_requantize_float64(*totals, multiplier, shift);
            *totals = ek_clamp_s32(scaled + o->zero_point, o->clamp_min, o->clamp_max);
        }
        return;
    }
    const int32_t multiplier = ((const int32_t *)o->multiplier)[channel];
    for (ek_total *const end = totals + count; totals != end; ++totals) {
        const int32_t scaled = ek_requantize_single((int32_t)*totals, multiplier, shift);
        *totals =
            ek_clamp_s32(ek_add_wrap_s32(scaled, o->zero_point), o->clamp_min, o->clamp_max);
    }
}

/* Writes a block's outputs of one channel, each what ek_sum makes of it and the residual at its
 * place; as they are where residual is NULL. */
EK_CODED_INLINE void ek_block_store(
    const ek_convolution_shape *s,
    const ek_total *outputs,
    const ek_block *block,
    int32_t channel,
    const ek_sum_params *sum,
    const int8_t *residual,
    int8_t *y)
{
    const int32_t down = ek_lines_down(s);
    const int32_t length = down ? s->y_height : s->y_width;
    const int32_t step = (down ? s->y_width : 1) * s->y_channels;
    const int32_t line_step = (down ? 1 : s->y_width) * s->y_channels;
    int32_t line = block->line;
    int32_t position = block->position;
    int32_t place = line * line_step + position * step + channel;

    for (int32_t i = 0; i < block->count; ++i, place += step) {
        if (position++ == length) {
            position = 1;
            place = ++line * line_step + channel;
        }
        y[place] = (int8_t)(residual == NULL
                                ? (int32_t)outputs[i]
                                : ek_sum(sum, (int32_t)outputs[i], residual[place]));
    }
}

#endif /* EK_CODED_CONVOLUTION_H */
