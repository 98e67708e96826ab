/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * LSTM over a sequence.
 *
 * x: float32 [steps,batch,inputs]; w: float32 [4*units,inputs]; r: float32 [4*units,units];
 * bias: float32 [4*units] or NULL; rows come gate by gate: input, output, forget, cell.
 * h, c: float32 [batch,units] before the first step, or NULL for 0; y: float32 [steps,batch,units];
 * h_next, c_next: float32 [batch,units] after the last step; scratch: 4*units floats.
 * Nothing overlaps, but h_next may be h and c_next c.
 *
 * A gate adds the products with x from 0 on, then those with h, then the bias.
 * c = sigmoid(forget) * c + sigmoid(input) * tanh(cell); h = sigmoid(output) * tanh(c).
 */
#ifndef EK_LSTM_F32_H
#define EK_LSTM_F32_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t steps;
    int32_t batch;
    int32_t inputs;
    int32_t units;
    int32_t reverse; /* 1: from the last step to the first */
} ek_lstm_f32_params;

void EK_FN(lstm_f32)(
    const ek_lstm_f32_params *p,
    const float *x,
    const float *w,
    const float *r,
    const float *bias,
    const float *h,
    const float *c,
    float *y,
    float *h_next,
    float *c_next,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_LSTM_F32_H */
