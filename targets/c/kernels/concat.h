/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Joins tensors along an axis.
 *
 * Elements of any size. `bytes` holds, for each input, how many bytes of it lie together in y: the
 * extents from the axis inwards times the size of an element. y must not overlap an input.
 */
#ifndef EK_CONCAT_H
#define EK_CONCAT_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t outer;  /* product of the extents in front of the axis */
    int32_t inputs; /* entries of `bytes` and x */
} ek_concat_params;

void EK_FN(concat)(
    const ek_concat_params *p, const int32_t *bytes, const void *const *x, void *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CONCAT_H */
