/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Mean of each window.
 *
 * x: float32 [N,H,W,C]; y: float32 [N,YH,YW,C]. y must not overlap x.
 * The sum runs over rows, then columns, from +0; one division.
 */
#ifndef EK_AVG_POOL_2D_F32_H
#define EK_AVG_POOL_2D_F32_H

#include "ek_ieee.h"
#include "ek_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_pool_shape shape;
    float divisor;   /* of every window; 0 stands for the number of elements that are there */
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_avg_pool_2d_f32_params;

void EK_FN(avg_pool_2d_f32)(const ek_avg_pool_2d_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_AVG_POOL_2D_F32_H */
