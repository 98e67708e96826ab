/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * GRU over a sequence.
 *
 * x: float32 [steps,batch,inputs]; w: float32 [3*units,inputs]; r: float32 [3*units,units];
 * bias: float32 [3*units] or NULL; rows come gate by gate: update, reset, candidate;
 * r_bias: float32 [units] or NULL, read with reset_after only.
 * h: float32 [batch,units] before the first step, or NULL for 0; y: float32 [steps,batch,units];
 * h_next: float32 [batch,units] after the last step; scratch: 4*units floats. Nothing overlaps, but
 * h_next may be h.
 *
 * Update and reset add the products with x from 0 on, then those with h, then the bias. The
 * candidate with reset_after: tanh((x's sum + bias) + reset * (h's sum + r_bias)); without:
 * tanh of the products with x, then those with reset * h, then the bias.
 * h = (1 - update) * candidate + update * h.
 */
#ifndef EK_GRU_F32_H
#define EK_GRU_F32_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t steps;
    int32_t batch;
    int32_t inputs;
    int32_t units;
    int32_t reverse;     /* 1: from the last step to the first */
    int32_t reset_after; /* 1: reset multiplies the sum over h, 0: h itself */
} ek_gru_f32_params;

void EK_FN(gru_f32)(
    const ek_gru_f32_params *p,
    const float *x,
    const float *w,
    const float *r,
    const float *bias,
    const float *r_bias,
    const float *h,
    float *y,
    float *h_next,
    void *scratch);

#ifdef __cplusplus
}
#endif

#endif /* EK_GRU_F32_H */
