/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Weighted sum of samples.
 *
 * x: int16 [batches,groups * inputs]; w: int8 [groups,outputs,inputs]; acc: int32
 * [batches,groups * outputs] or NULL for 0; y: int32 likewise. y may be acc, and must not overlap x.
 *
 * y = acc + sum of x * w, modulo 2^32.
 */
#ifndef EK_CURRENT_DENSE_S16_H
#define EK_CURRENT_DENSE_S16_H

#include "ek_current_s16.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;
    int32_t groups;
    int32_t inputs;  /* of a group */
    int32_t outputs; /* of a group */
} ek_current_dense_s16_params;

void EK_FN(current_dense_s16)(
    const ek_current_dense_s16_params *p,
    const int16_t *x,
    const int8_t *w,
    const int32_t *acc,
    int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CURRENT_DENSE_S16_H */
