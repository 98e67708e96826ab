/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Index of the first largest element along an axis.
 *
 * x: int8 [outer, length, inner]; y: int32 or int64 [outer, inner], must not overlap x.
 */
#ifndef EK_ARGMAX_S8_H
#define EK_ARGMAX_S8_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t outer;
    int32_t length; /* of the axis, at least 1 */
    int32_t inner;
    int32_t wide; /* whether y is int64 */
} ek_argmax_s8_params;

void EK_FN(argmax_s8)(const ek_argmax_s8_params *p, const int8_t *x, void *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_ARGMAX_S8_H */
