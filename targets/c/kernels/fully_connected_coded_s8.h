/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Fully connected layer with coded weights; see ek_coded.h for them and for the proof that nothing
 * overflows.
 *
 * x: int8 [rows,depth]; w: packed rows, uint8 [outputs,row_bytes]; factors: codes, uint8
 * [outputs,groups] or NULL; levels: int16 [2^bits] or NULL; bias: [outputs] or NULL, int64 where
 * int64_bias, else int32; multiplier: int64, 0 or in [2^52, 2^53), and shift: int8, in -74...32,
 * [outputs] or [1]; y: int8 [rows,outputs]. y must not overlap x.
 *
 * y = clamp(requantize(total, + bias) + y_zero_point), rounded float64.
 */
#ifndef EK_FULLY_CONNECTED_CODED_S8_H
#define EK_FULLY_CONNECTED_CODED_S8_H

#include "ek_coding.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_coding coding;
    int32_t rows;
    int32_t depth;
    int32_t outputs;
    int32_t int64_bias;
    int32_t factors;      /* multipliers and shifts, outputs or 1 */
    int32_t x_zero_point; /* -128...127 */
    int32_t y_zero_point;
    int32_t clamp_min; /* bounds of y in -128...127 */
    int32_t clamp_max;
} ek_fully_connected_coded_s8_params;

void EK_FN(fully_connected_coded_s8)(
    const ek_fully_connected_coded_s8_params *p,
    const int8_t *x,
    const uint8_t *w,
    const uint8_t *factors,
    const int16_t *levels,
    const void *bias,
    const int64_t *multiplier,
    const int8_t *shift,
    int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_FULLY_CONNECTED_CODED_S8_H */
