/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Leaky neurons behind a leaky synaptic current in fixed point, one step.
 *
 * x, u, i: int32 [batches,rows,row], input, membrane, current; alpha, beta: int32, 0...2^15, decay
 * factors of i and u in units of 2^-15; threshold: int32, or NULL for neurons that never spike;
 * bias: int32 or NULL; these have `row` elements or, where their step is 0, one. s: int32
 * [batches,words of rows * row neurons], bit set; u_next, i_next: int32 as u. No output may overlap
 * an input, but u_next may be u and i_next i.
 *
 * i_next = decayed i + x * scale + bias, clipped; u_next = decayed u + i_next, where u is above the
 * threshold less this (EK_RESET_SUBTRACT) or 0 (EK_RESET_ZERO), clipped. Sums wrap before they are
 * clipped. A neuron spikes where u_next is above its threshold.
 */
#ifndef EK_SYNAPTIC_S32_H
#define EK_SYNAPTIC_S32_H

#include "ek_neuron.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_neuron_shape shape;
    int32_t alpha_step;
} ek_synaptic_s32_params;

void EK_FN(synaptic_s32)(
    const ek_synaptic_s32_params *p,
    const int32_t *x,
    const int32_t *u,
    const int32_t *i,
    const int32_t *alpha,
    const int32_t *beta,
    const int32_t *threshold,
    const int32_t *bias,
    int32_t *s,
    int32_t *u_next,
    int32_t *i_next);

#ifdef __cplusplus
}
#endif

#endif /* EK_SYNAPTIC_S32_H */
