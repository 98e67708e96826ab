/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Leaky integrate-and-fire neurons in fixed point, one step; reset by subtraction.
 *
 * x: int32 [batches,rows,row], current; u: int32 likewise, membrane; own: int32 [row,3], of a neuron
 * its factor beta as in ek_neuron_packed.h, its threshold and its bias. s: int32
 * [batches,words of rows * row neurons], bit set; u_next: int32 as u. Either may not overlap an
 * input, but u_next may be u.
 *
 * u_next = ((beta * u + 2^14) >> 15) + x * scale + bias, less the threshold where u is above it,
 * clipped. Sums wrap before that. A neuron spikes where u_next is above its threshold.
 */
#ifndef EK_LEAKY_PACKED_S32_H
#define EK_LEAKY_PACKED_S32_H

#include "ek_leaky_packed.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_neuron_packed_shape shape;
} ek_leaky_packed_s32_params;

void EK_FN(leaky_packed_s32)(
    const ek_leaky_packed_s32_params *p,
    const int32_t *x,
    const int32_t *u,
    const int32_t *own,
    int32_t *s,
    int32_t *u_next);

#ifdef __cplusplus
}
#endif

#endif /* EK_LEAKY_PACKED_S32_H */
