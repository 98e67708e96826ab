/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Leaky neurons behind a leaky synaptic current in fixed point, one step; reset by subtraction.
 *
 * x, u, i: int32 [batches,rows,row], input, membrane, current; drives: int32 [row,2], of a neuron its
 * factor alpha as in ek_neuron_packed.h and its bias; own: int32 [row,2], its factor beta likewise
 * and its threshold. s: int32
 * [batches,words of rows * row neurons], bit set; u_next, i_next: int32 as u. No output may overlap
 * an input, but u_next may be u and i_next i.
 *
 * i_next = ((alpha * i + 2^14) >> 15) + x * scale + bias, clipped; u_next = ((beta * u + 2^14) >> 15)
 * + i_next, less the threshold where u is above it, clipped. Sums wrap before they are clipped. A
 * neuron spikes where u_next is above its threshold.
 */
#ifndef EK_SYNAPTIC_PACKED_S32_H
#define EK_SYNAPTIC_PACKED_S32_H

#include "ek_leaky_packed.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_neuron_packed_shape shape;
} ek_synaptic_packed_s32_params;

void EK_FN(synaptic_packed_s32)(
    const ek_synaptic_packed_s32_params *p,
    const int32_t *x,
    const int32_t *u,
    const int32_t *i,
    const int32_t *drives,
    const int32_t *own,
    int32_t *s,
    int32_t *u_next,
    int32_t *i_next);

#ifdef __cplusplus
}
#endif

#endif /* EK_SYNAPTIC_PACKED_S32_H */
