/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Largest element of each window.
 *
 * x: int8 [N,H,W,C]; y: int8 [N,YH,YW,C]. Padding never wins. y must not overlap x.
 */
#ifndef EK_MAX_POOL_2D_S8_H
#define EK_MAX_POOL_2D_S8_H

#include "ek_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_pool_shape shape;
    int32_t clamp_min; /* bounds of y in -128...127 */
    int32_t clamp_max;
} ek_max_pool_2d_s8_params;

void EK_FN(max_pool_2d_s8)(const ek_max_pool_2d_s8_params *p, const int8_t *x, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_MAX_POOL_2D_S8_H */
