/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * How many neurons under a window spike.
 *
 * s: int32 [batches,set_words], bit set of [H,W,C]; y: float32 [batches,OH,OW,C]. y must not overlap s.
 */
#ifndef EK_SPIKE_SUM_POOL_2D_F32_H
#define EK_SPIKE_SUM_POOL_2D_F32_H

#include "ek_ieee.h"
#include "ek_spike_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_pool_shape shape;
    int32_t set_words; /* of the bit set of a batch of x */
} ek_spike_sum_pool_2d_f32_params;

void EK_FN(spike_sum_pool_2d_f32)(
    const ek_spike_sum_pool_2d_f32_params *p,
    const int32_t *s,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPIKE_SUM_POOL_2D_F32_H */
