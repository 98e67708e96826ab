/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Largest element of each window of a current.
 *
 * x: int32 [N,H,W,C]; y: int32 [N,YH,YW,C]. Padding never wins. y must not overlap x.
 */
#ifndef EK_CURRENT_MAX_POOL_2D_S32_H
#define EK_CURRENT_MAX_POOL_2D_S32_H

#include "ek_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_pool_shape shape;
} ek_current_max_pool_2d_s32_params;

void EK_FN(current_max_pool_2d_s32)(
    const ek_current_max_pool_2d_s32_params *p, const int32_t *x, int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CURRENT_MAX_POOL_2D_S32_H */
