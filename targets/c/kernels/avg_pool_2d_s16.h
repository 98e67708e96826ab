/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Mean of each window.
 *
 * x: int16 [N,H,W,C]; y: int16 [N,YH,YW,C]. y must not overlap x.
 * Sums fit int32: windows have at most 65535 elements. Halves round away from zero.
 */
#ifndef EK_AVG_POOL_2D_S16_H
#define EK_AVG_POOL_2D_S16_H

#include "ek_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_pool_shape shape;
    int32_t divisor;      /* of every window; 0 stands for the number of elements that are there */
    int32_t x_zero_point; /* what padding counts as where divisor is not 0 */
    int32_t clamp_min;    /* bounds of y in -32768...32767 */
    int32_t clamp_max;
} ek_avg_pool_2d_s16_params;

void EK_FN(avg_pool_2d_s16)(const ek_avg_pool_2d_s16_params *p, const int16_t *x, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_AVG_POOL_2D_S16_H */
