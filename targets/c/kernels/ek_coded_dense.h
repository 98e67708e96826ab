/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Products of int8 vectors and rows of coded weights.
 *
 * Four rows share every load of x. Codes of one to four bits, bytes and trits are decoded in
 * registers, eight or five columns at a time, which always begin and end at a byte; other widths,
 * and columns that are left over, go through a tile.
 *
 * Where there are fewer than four outputs each is computed as four equal ones: a layer of one, two
 * or three takes the time of four, eight or twelve.
 */
#ifndef EK_CODED_DENSE_H
#define EK_CODED_DENSE_H

#include "ek_coded.h"
#include "ek_dot_s8.h"

#define EK_DENSE_ROWS 4
#define EK_DENSE_RUN 240 /* most columns that are summed in int32, see ek_coded.h; whole bytes */

/* acc[i] += products of 8 * blocks columns with row i. Where levels is NULL codes are two's
 * complement; one of a single bit is 0 or -1, and the weight -1 less twice that. */
EK_CODED_INLINE void ek_dense_blocks(
    const uint8_t *w,
    int32_t row_bytes,
    const int8_t *x,
    int32_t blocks,
    int32_t zero_point,
    int32_t bits,
    const int16_t *levels,
    int32_t *acc)
{
    int32_t acc0 = 0;
    int32_t acc1 = 0;
    int32_t acc2 = 0;
    int32_t acc3 = 0;
    int32_t inputs = 0;
    for (const uint8_t *const end = w + blocks * bits; w != end; w += bits) {
        const uint8_t *row = w;
        const uint32_t word0 = ek_coded_word(row, bits);
        const uint32_t word1 = ek_coded_word(row += row_bytes, bits);
        const uint32_t word2 = ek_coded_word(row += row_bytes, bits);
        const uint32_t word3 = ek_coded_word(row += row_bytes, bits);
#define EK_DENSE_COLUMN(index) \
    do { \
        const int32_t value = *x++ - zero_point; \
        inputs += value; \
        acc0 += value * ek_coded_value(word0, bits, index, levels); \
        acc1 += value * ek_coded_value(word1, bits, index, levels); \
        acc2 += value * ek_coded_value(word2, bits, index, levels); \
        acc3 += value * ek_coded_value(word3, bits, index, levels); \
    } while (0)
        EK_DENSE_COLUMN(0);
        EK_DENSE_COLUMN(1);
        EK_DENSE_COLUMN(2);
        EK_DENSE_COLUMN(3);
        EK_DENSE_COLUMN(4);
        EK_DENSE_COLUMN(5);
        EK_DENSE_COLUMN(6);
        EK_DENSE_COLUMN(7);
#undef EK_DENSE_COLUMN
    }
    acc[0] += bits == 1 ? -2 * acc0 - inputs : acc0;
    acc[1] += bits == 1 ? -2 * acc1 - inputs : acc1;
    acc[2] += bits == 1 ? -2 * acc2 - inputs : acc2;
    acc[3] += bits == 1 ? -2 * acc3 - inputs : acc3;
}

/* The same for 5 * blocks columns of trits. Digit j of a byte is one more than the weight, and
 * q[j] - 3 * q[j + 1], q[j] being the byte over 3^j: sums of x[j] times that, ordered by the q. */
static void ek_dense_trits(
    const uint8_t *w,
    int32_t row_bytes,
    const int8_t *x,
    int32_t blocks,
    int32_t zero_point,
    int32_t *acc)
{
    for (const uint8_t *const end = w + blocks; w != end; ++w, x += 5) {
        const int32_t x0 = x[0] - zero_point;
        const int32_t x1 = x[1] - zero_point;
        const int32_t x2 = x[2] - zero_point;
        const int32_t x3 = x[3] - zero_point;
        const int32_t x4 = x[4] - zero_point;
        const int32_t inputs = x0 + x1 + x2 + x3 + x4;
        const uint8_t *row = w;
        for (int32_t i = 0; i < EK_DENSE_ROWS; ++i, row += row_bytes) {
            const int32_t q0 = *row; /* below 2^8, where * 171 >> 9 is exactly a third */
            const int32_t q1 = (q0 * 171) >> 9;
            const int32_t q2 = (q1 * 171) >> 9;
            const int32_t q3 = (q2 * 171) >> 9;
            const int32_t q4 = (q3 * 171) >> 9;
            acc[i] += x0 * q0 + (x1 - 3 * x0) * q1 + (x2 - 3 * x1) * q2 + (x3 - 3 * x2) * q3
                + (x4 - 3 * x3) * q4 - inputs;
        }
    }
}

/* Rows that a call computes: four from `row` on, `distance` apart in w and in factors, or one,
 * four times over, where both distances are 0. */
typedef struct {
    int32_t row;
    int32_t distance;
} ek_dense_rows;

/* The columns of a run that can be done in registers, whole bytes of w; their sums into acc. */
static int32_t ek_dense_fast(
    const ek_coded *w,
    ek_dense_rows rows,
    const int8_t *x,
    int32_t first,
    int32_t count,
    int32_t zero_point,
    int32_t *acc)
{
    const ek_coding *c = w->coding;
    const int32_t step = rows.distance * c->row_bytes;
    const int32_t blocks = count >> 3;
    const uint8_t *packed = w->w + rows.row * c->row_bytes;

    x += first;
    if (EK_CODED_TRITS && c->decoder == EK_TRITS) {
        const int32_t bytes = first % 5 == 0 ? count / 5 : 0;
        ek_dense_trits(packed + first / 5, step, x, bytes, zero_point, acc);
        return 5 * bytes;
    }
    if ((first & 7) != 0 || blocks == 0) {
        return 0;
    }
    packed += (first >> 3) * c->bits;
    if (EK_CODED_INTEGER && c->decoder == EK_INTEGER) {
        if (EK_CODED_2_BITS && c->bits == 2) {
            ek_dense_blocks(packed, step, x, blocks, zero_point, 2, NULL, acc);
        } else if (EK_CODED_3_BITS && c->bits == 3) {
            ek_dense_blocks(packed, step, x, blocks, zero_point, 3, NULL, acc);
        } else if (EK_CODED_4_BITS && c->bits == 4) {
            ek_dense_blocks(packed, step, x, blocks, zero_point, 4, NULL, acc);
        } else if (EK_CODED_8_BITS && c->bits == 8) {
            ek_dot4_s8(x, (const int8_t *)packed, step, 8 * blocks, zero_point, acc);
        } else {
            return 0;
        }
    } else if (EK_CODED_LEVELS && c->decoder == EK_LEVELS) {
        if (EK_CODED_2_BITS && c->bits == 2) {
            ek_dense_blocks(packed, step, x, blocks, zero_point, 2, w->levels, acc);
        } else if (EK_CODED_3_BITS && c->bits == 3) {
            ek_dense_blocks(packed, step, x, blocks, zero_point, 3, w->levels, acc);
        } else if (EK_CODED_4_BITS && c->bits == 4) {
            ek_dense_blocks(packed, step, x, blocks, zero_point, 4, w->levels, acc);
        } else {
            return 0;
        }
    } else if (EK_CODED_SIGN && c->decoder == EK_SIGN) {
        ek_dense_blocks(packed, step, x, blocks, zero_point, 1, NULL, acc);
    } else {
        return 0;
    }
    return 8 * blocks;
}

/* The same for any columns, by tiles of a quarter for each row. */
static void ek_dense_tiled(
    const ek_coded *w,
    ek_dense_rows rows,
    const int8_t *x,
    int32_t first,
    int32_t count,
    int32_t zero_point,
    int32_t *acc)
{
    const int32_t quarter = EK_TILE / EK_DENSE_ROWS;
    ek_narrow tile[EK_TILE];

    while (count > 0) {
        const int32_t columns = ek_min_s32(count, quarter);
        for (int32_t i = 0; i < EK_DENSE_ROWS; ++i) {
            ek_coded_decode(
                w, rows.row + i * rows.distance, first, columns, tile + i * quarter);
        }
        for (int32_t i = 0; i < columns; ++i) {
            const int32_t value = x[first + i] - zero_point;
            acc[0] += value * tile[i];
            acc[1] += value * tile[quarter + i];
            acc[2] += value * tile[2 * quarter + i];
            acc[3] += value * tile[3 * quarter + i];
        }
        first += columns;
        count -= columns;
    }
}

/* Levels beyond int16: one row, a tile at a time, in int64. */
static int64_t ek_dense_wide(
    const ek_coded *w,
    int32_t row,
    const int8_t *x,
    int32_t first,
    int32_t count,
    int32_t zero_point)
{
    ek_wide tile[EK_TILE];
    int64_t acc = 0;

    while (count > 0) {
        const int32_t columns = ek_min_s32(count, EK_TILE);
        ek_coded_decode_wide(w, row, first, columns, tile);
        for (int32_t i = 0; i < columns; ++i) {
            acc += (int64_t)(x[first + i] - zero_point) * tile[i];
        }
        first += columns;
        count -= columns;
    }
    return acc;
}

/* totals[i] = products of all columns with row i, times the factors of their groups. */
static void ek_dense_totals(
    const ek_coded *w,
    ek_dense_rows rows,
    const int8_t *x,
    int32_t depth,
    int32_t zero_point,
    int64_t *totals)
{
    const ek_coding *c = w->coding;
    int32_t group = 0;
    int32_t left = c->group; /* columns of the group */

    totals[0] = totals[1] = totals[2] = totals[3] = 0;
    for (int32_t first = 0; first < depth;) {
        int32_t count = ek_min_s32(ek_min_s32(left, depth - first), EK_DENSE_RUN);
        if (EK_CODED_WIDE && c->wide) {
            for (int32_t i = 0; i < EK_DENSE_ROWS; ++i) {
                const int32_t row = rows.row + i * rows.distance;
                totals[i] += ek_coded_factor(w, row, group)
                    * ek_dense_wide(w, row, x, first, count, zero_point);
            }
        } else {
            int32_t sums[EK_DENSE_ROWS] = {0, 0, 0, 0};
            const int32_t done = ek_dense_fast(w, rows, x, first, count, zero_point, sums);
            ek_dense_tiled(w, rows, x, first + done, count - done, zero_point, sums);
            for (int32_t i = 0; i < EK_DENSE_ROWS; ++i) {
                const int32_t row = rows.row + i * rows.distance;
                totals[i] += (int64_t)ek_coded_factor(w, row, group) * sums[i];
            }
        }
        first += count;
        left -= count;
        if (left == 0) {
            left = c->group;
            ++group;
        }
    }
}

/* Which rows give outputs from `output` on, how many of them and where they begin: four, the last
 * four where fewer are left, or one where there are fewer than four at all. */
static inline int32_t ek_dense_next(int32_t output, int32_t outputs, ek_dense_rows *rows)
{
    if (outputs < EK_DENSE_ROWS) {
        rows->row = output;
        rows->distance = 0;
        return 1;
    }
    rows->row = ek_min_s32(output, outputs - EK_DENSE_ROWS);
    rows->distance = 1;
    return EK_DENSE_ROWS - (output - rows->row);
}

#endif /* EK_CODED_DENSE_H */
