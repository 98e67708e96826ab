/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Copies runs of bytes from a strided view of x into y without gaps: slice, transpose.
 *
 * Elements of any size; x and y are aligned to it. y must not overlap x.
 */
#ifndef EK_COPY_STRIDED_H
#define EK_COPY_STRIDED_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EK_COPY_STRIDED_RANK 6

typedef struct {
    int32_t size[EK_COPY_STRIDED_RANK];   /* extents of y, outermost first, each 1 or more */
    int32_t stride[EK_COPY_STRIDED_RANK]; /* bytes from one index to the next in x; any sign */
    int32_t offset;                       /* bytes from x to the first run */
    int32_t run;                          /* bytes that lie together in x and in y */
} ek_copy_strided_params;

void EK_FN(copy_strided)(const ek_copy_strided_params *p, const void *x, void *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_COPY_STRIDED_H */
