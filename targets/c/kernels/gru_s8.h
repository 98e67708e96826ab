/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * GRU over a sequence: int8 activations and weights, int16 state.
 *
 * x: int8 [steps,batch,inputs]; w: int8 [3*units,inputs]; r: int8 [3*units,units]; bias: int32
 * [3*units] or NULL; x_multiplier, h_multiplier: int32 in [0, 2^31), x_shift, h_shift: int8 in
 * -31...30, all [3*units]; rows come gate by gate: update, reset, candidate;
 * r_bias: int32 [units] or NULL, read with reset_after only.
 * table: int16 [256], see edgekit's sigmoid_table_s16.
 * h: int16 [batch,units] in steps of 1/32768 before the first step, or NULL for 0;
 * y: int8 [steps,batch,units]; h_next: int16 [batch,units] after the last step;
 * scratch: 4*units int16. Nothing overlaps, but h_next may be h.
 *
 * A gate's argument is int16 in steps of 1/4096, saturated after the sum over x and after that over
 * h, which is multiplied as int8 with y's quantisation. With reset_after the candidate's sum over h
 * saturates, is multiplied by reset and added; without, h is multiplied by reset first.
 * h = candidate + update * (h - candidate); products shifted back are rounded to nearest, ties
 * away from zero. y = requantize(h) + h_zero_point, saturated. Sums of at most 65793 products fit
 * int32; biases wrap.
 */
#ifndef EK_GRU_S8_H
#define EK_GRU_S8_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t steps;
    int32_t batch;
    int32_t inputs;
    int32_t units;
    int32_t reverse;      /* 1: from the last step to the first */
    int32_t reset_after;  /* 1: reset multiplies the sum over h, 0: h itself */
    int32_t x_zero_point; /* -128...127 */
    int32_t h_zero_point; /* of y */
    int32_t y_multiplier; /* from steps of 1/32768 to those of y */
    int32_t y_shift;
} ek_gru_s8_params;

void EK_FN(gru_s8)(
    const ek_gru_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int8_t *r,
    const int32_t *bias,
    const int32_t *r_bias,
    const int32_t *x_multiplier,
    const int8_t *x_shift,
    const int32_t *h_multiplier,
    const int8_t *h_shift,
    const int16_t *table,
    const int16_t *h,
    int8_t *y,
    int16_t *h_next,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_GRU_S8_H */
