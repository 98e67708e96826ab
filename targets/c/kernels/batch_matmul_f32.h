/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Product of two computed matrices.
 *
 * a: float32 [...,M,K]; b: float32 [...,K,N] or [...,N,K]; y: float32 [...,M,N].
 * y must not overlap a or b.
 *
 * y = clamp(sum of a * b). The sum starts at 0 and adds its products in ascending order, each
 * product and each sum rounded.
 */
#ifndef EK_BATCH_MATMUL_F32_H
#define EK_BATCH_MATMUL_F32_H

#include "ek_batch_matmul.h"
#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_batch_matmul_shape shape;
    float clamp_min; /* bounds of y, may be infinite */
    float clamp_max;
} ek_batch_matmul_f32_params;

void EK_FN(batch_matmul_f32)(
    const ek_batch_matmul_f32_params *p, const float *a, const float *b, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_BATCH_MATMUL_F32_H */
