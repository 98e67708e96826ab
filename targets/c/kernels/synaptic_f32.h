/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Leaky neurons behind a leaky synaptic current in float32, one step.
 *
 * x, u, i: float32 [batches,rows,row], input, membrane, current; alpha, beta: float32, decay factors
 * of i and u; threshold: float32, or NULL for neurons that never spike; bias: float32 or NULL; these
 * have `row` elements or, where their step is 0, one. s: int32 [batches,words of rows * row neurons],
 * bit set; u_next, i_next: float32 as u. No output may overlap an input, but u_next may be u and
 * i_next i. scale and limit of the shape are not read.
 *
 * With r = 1 where u is above the threshold, else 0: i_next = alpha * i + (x + bias); v = beta * u +
 * i_next; u_next = v - r * threshold (EK_RESET_SUBTRACT) or v - v * r (EK_RESET_ZERO) or v, every
 * operation rounded. A neuron spikes where u_next is above its threshold.
 */
#ifndef EK_SYNAPTIC_F32_H
#define EK_SYNAPTIC_F32_H

#include "ek_neuron_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_neuron_shape shape;
    int32_t alpha_step;
} ek_synaptic_f32_params;

void EK_FN(synaptic_f32)(
    const ek_synaptic_f32_params *p,
    const float *x,
    const float *u,
    const float *i,
    const float *alpha,
    const float *beta,
    const float *threshold,
    const float *bias,
    int32_t *s,
    float *u_next,
    float *i_next);

#ifdef __cplusplus
}
#endif

#endif /* EK_SYNAPTIC_F32_H */
