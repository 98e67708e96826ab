/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Cuts a tensor along an axis.
 *
 * Elements of any size. `bytes` holds, for each output, how many bytes of it lie together in x: the
 * extents from the axis inwards times the size of an element. No output may overlap x.
 */
#ifndef EK_SPLIT_H
#define EK_SPLIT_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t outer;   /* product of the extents in front of the axis */
    int32_t outputs; /* entries of `bytes` and y */
} ek_split_params;

void EK_FN(split)(
    const ek_split_params *p, const int32_t *bytes, const void *x, void *const *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SPLIT_H */
