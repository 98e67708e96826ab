/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Whether any neuron under a window spikes.
 *
 * s: int32 [batches,set_words], bit set of [H,W,C]; y: int32, bit set of [OH,OW,C] a batch. y must
 * not overlap s.
 */
#ifndef EK_SPIKE_MAX_POOL_2D_H
#define EK_SPIKE_MAX_POOL_2D_H

#include "ek_spike_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_pool_shape shape;
    int32_t set_words; /* of the bit set of a batch of x */
} ek_spike_max_pool_2d_params;

void EK_FN(spike_max_pool_2d)(
    const ek_spike_max_pool_2d_params *p,
    const int32_t *s,
    int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_MAX_POOL_2D_H */
