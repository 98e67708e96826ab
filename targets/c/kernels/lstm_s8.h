/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * LSTM over a sequence: int8 activations and weights, int16 cell.
 *
 * x: int8 [steps,batch,inputs]; w: int8 [4*units,inputs]; r: int8 [4*units,units]; bias: int32
 * [4*units] or NULL; x_multiplier, h_multiplier: int32 in [0, 2^31), x_shift, h_shift: int8 in
 * -31...30, all [4*units]; rows come gate by gate: input, output, forget, cell.
 * table: int16 [256], see edgekit's sigmoid_table_s16.
 * h: int8 [batch,units] or NULL for h_zero_point; c: int16 [batch,units] or NULL for 0;
 * y: int8 [steps,batch,units]; h_next: int8, c_next: int16, both [batch,units], after the last
 * step; scratch: 4*units int16. Nothing overlaps, but h_next may be h and c_next c.
 *
 * A gate's argument is int16 in steps of 1/4096, saturated after the sum over x and after that over
 * h. c = sat16(sigmoid(forget) * c + sigmoid(input) * tanh(cell)), each product shifted back and
 * rounded to nearest, ties away from zero; h = requantize(sigmoid(output) * tanh(c)) +
 * h_zero_point, saturated. Sums of at most 65793 products fit int32; the bias wraps.
 */
#ifndef EK_LSTM_S8_H
#define EK_LSTM_S8_H

#include "ek_curve_s16.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t steps;
    int32_t batch;
    int32_t inputs;
    int32_t units;
    int32_t reverse;      /* 1: from the last step to the first */
    int32_t x_zero_point; /* -128...127 */
    int32_t h_zero_point;
    int32_t cell_shift; /* 15...30: from steps of 2^-30 to those of the cell */
    ek_curve_s16 cell;  /* the cell to the curves' steps; its count is not used */
    int32_t hidden_multiplier; /* from steps of 2^-30 to those of h */
    int32_t hidden_shift;
} ek_lstm_s8_params;

void EK_FN(lstm_s8)(
    const ek_lstm_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int8_t *r,
    const int32_t *bias,
    const int32_t *x_multiplier,
    const int8_t *x_shift,
    const int32_t *h_multiplier,
    const int8_t *h_shift,
    const int16_t *table,
    const int8_t *h,
    const int16_t *c,
    int8_t *y,
    int8_t *h_next,
    int16_t *c_next,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_LSTM_S8_H */
