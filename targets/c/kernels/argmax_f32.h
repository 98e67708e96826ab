/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Index of the first largest element along an axis.
 *
 * x: float32 [outer, length, inner]; y: int32 or int64 [outer, inner], must not overlap x.
 */
#ifndef EK_ARGMAX_F32_H
#define EK_ARGMAX_F32_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t outer;
    int32_t length; /* of the axis, at least 1 */
    int32_t inner;
    int32_t wide; /* whether y is int64 */
} ek_argmax_f32_params;

void EK_FN(argmax_f32)(const ek_argmax_f32_params *p, const float *x, void *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_ARGMAX_F32_H */
