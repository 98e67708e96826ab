/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Leaky integrate-and-fire neurons in float32, one step.
 *
 * x: float32 [batches,rows,row], current; u: float32 likewise, membrane; beta: float32, decay
 * factor; threshold: float32, or NULL for neurons that never spike; bias: float32 or NULL; these
 * have `row` elements or, where their step is 0, one. s: int32 [batches,words of rows * row
 * neurons], bit set; u_next: float32 as u. Either may not overlap an input, but u_next may be u.
 * scale and limit of the shape are not read.
 *
 * With r = 1 where u is above the threshold, else 0: u_next = (beta * u + (x + bias)) - r * threshold
 * for EK_RESET_SUBTRACT, beta * ((1 - r) * u) + (x + bias) for EK_RESET_ZERO, every operation rounded.
 * A neuron spikes where u_next is above its threshold.
 */
#ifndef EK_LEAKY_F32_H
#define EK_LEAKY_F32_H

#include "ek_neuron_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_neuron_shape shape;
} ek_leaky_f32_params;

void EK_FN(leaky_f32)(
    const ek_leaky_f32_params *p,
    const float *x,
    const float *u,
    const float *beta,
    const float *threshold,
    const float *bias,
    int32_t *s,
    float *u_next);

#ifdef __cplusplus
}
#endif

#endif /* EK_LEAKY_F32_H */
