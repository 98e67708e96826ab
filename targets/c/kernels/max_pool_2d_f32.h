/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Largest element of each window.
 *
 * x: float32 [N,H,W,C]; y: float32 [N,YH,YW,C]. Padding never wins, nor does NaN. y must not
 * overlap x.
 */
#ifndef EK_MAX_POOL_2D_F32_H
#define EK_MAX_POOL_2D_F32_H

#include "ek_ieee.h"
#include "ek_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_pool_shape shape;
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_max_pool_2d_f32_params;

void EK_FN(max_pool_2d_f32)(const ek_max_pool_2d_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_MAX_POOL_2D_F32_H */
