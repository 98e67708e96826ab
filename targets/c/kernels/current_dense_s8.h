/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Weighted sum of samples.
 *
 * x: int8 [batches,groups * inputs]; w: int8 [groups,outputs,inputs]; acc: int32
 * [batches,groups * outputs] or NULL for 0; y: int32 likewise. y may be acc, and must not overlap x.
 *
 * y = acc + sum of (x - x_zero_point) * w, modulo 2^32.
 */
#ifndef EK_CURRENT_DENSE_S8_H
#define EK_CURRENT_DENSE_S8_H

#include "ek_current_s8.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t groups;
    int32_t inputs;  /* of a group */
    int32_t outputs; /* of a group */
    int32_t x_zero_point; /* -128...127 */
} ek_current_dense_s8_params;

void EK_FN(current_dense_s8)(
    const ek_current_dense_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CURRENT_DENSE_S8_H */
