/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Weighted sum of samples.
 *
 * x: float32 [batches,groups * inputs]; w: float32 [groups,outputs,inputs]; acc: float32
 * [batches,groups * outputs] or NULL for 0; y: float32 likewise. y may be acc, and must not overlap x.
 *
 * y = acc + sum of x * w, starting with acc + 0, product by product.
 */
#ifndef EK_CURRENT_DENSE_F32_H
#define EK_CURRENT_DENSE_F32_H

#include "ek_current_f32.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t groups;
    int32_t inputs;  /* of a group */
    int32_t outputs; /* of a group */
} ek_current_dense_f32_params;

void EK_FN(current_dense_f32)(
    const ek_current_dense_f32_params *p,
    const float *x,
    const float *w,
    const float *acc,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CURRENT_DENSE_F32_H */
