/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Fully connected layer.
 *
 * x: int8 [rows,depth]; w: int8 [outputs,depth]; bias: int32 [outputs] or NULL;
 * multiplier: int64, 0 or in [2^52, 2^53), and shift: int8, in -74...32, [outputs] or [1];
 * y: int8 [rows,outputs]. y must not overlap x.
 *
 * y = clamp(requantize(sum of (x - x_zero_point) * w, + bias) + y_zero_point), rounded float64.
 * Sums of at most 65793 products fit int32; the bias wraps.
 */
#ifndef EK_FULLY_CONNECTED_S8_H
#define EK_FULLY_CONNECTED_S8_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t depth;
    int32_t outputs;
    int32_t factors;      /* multipliers and shifts, outputs or 1 */
    int32_t x_zero_point; /* -128...127 */
    int32_t y_zero_point;
    int32_t clamp_min; /* bounds of y in -128...127 */
    int32_t clamp_max;
} ek_fully_connected_s8_params;

void EK_FN(fully_connected_s8)(
    const ek_fully_connected_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *bias,
    const int64_t *multiplier,
    const int8_t *shift,
    int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_FULLY_CONNECTED_S8_H */
