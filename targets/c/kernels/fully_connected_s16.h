/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Fully connected layer.
 *
 * x: int16 [rows,depth]; w: int8 [outputs,depth]; bias: int64 [outputs] or NULL;
 * multiplier: int64, 0 or in [2^52, 2^53), and shift: int8, in -74...32, [outputs] or [1];
 * y: int16 [rows,outputs]. y must not overlap x.
 *
 * y = clamp(requantize(sum of x * w, + bias)), rounded float64. Sums are int64; the bias wraps.
 */
#ifndef EK_FULLY_CONNECTED_S16_H
#define EK_FULLY_CONNECTED_S16_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t depth;
    int32_t outputs;
    int32_t factors;   /* multipliers and shifts, outputs or 1 */
    int32_t clamp_min; /* bounds of y in -32768...32767 */
    int32_t clamp_max;
} ek_fully_connected_s16_params;

void EK_FN(fully_connected_s16)(
    const ek_fully_connected_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int64_t *bias,
    const int64_t *multiplier,
    const int8_t *shift,
    int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_FULLY_CONNECTED_S16_H */
