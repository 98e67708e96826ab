/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Leaky integrate-and-fire neurons in fixed point, one step.
 *
 * x: int32 [batches,rows,row], current; u: int32 likewise, membrane; beta: int32, 0...2^15, decay
 * factor in units of 2^-15; threshold: int32, or NULL for neurons that never spike; bias: int32 or
 * NULL; these have `row` elements or, where their step is 0, one. s: int32 [batches,words of rows *
 * row neurons], bit set; u_next: int32 as u. Either may not overlap an input, but u_next may be u.
 *
 * u_next = decayed + x * scale + bias, less the threshold where u is above it and reset is
 * EK_RESET_SUBTRACT; decayed is (beta * u + 2^14) >> 15, of 0 for u where u is above the threshold
 * and reset is EK_RESET_ZERO; clipped. Sums wrap before that. A neuron spikes where u_next is above
 * its threshold.
 */
#ifndef EK_LEAKY_S32_H
#define EK_LEAKY_S32_H

#include "ek_neuron.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_neuron_shape shape;
} ek_leaky_s32_params;

void EK_FN(leaky_s32)(
    const ek_leaky_s32_params *p,
    const int32_t *x,
    const int32_t *u,
    const int32_t *beta,
    const int32_t *threshold,
    const int32_t *bias,
    int32_t *s,
    int32_t *u_next);

#ifdef __cplusplus
}
#endif

#endif /* EK_LEAKY_S32_H */
