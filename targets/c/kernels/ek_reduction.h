/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Which elements the kernels that reduce axes take together.
 */
#ifndef EK_REDUCTION_H
#define EK_REDUCTION_H

#include "ek_common.h"

#define EK_REDUCTION_RANK 3

/* Neighbouring axes of one kind are merged; x has at most three groups of each. Outermost first. */
typedef struct {
    int32_t kept_size[EK_REDUCTION_RANK];      /* extents of y, 1 where there is no axis */
    int32_t kept_stride[EK_REDUCTION_RANK];    /* elements of x from one index to the next */
    int32_t reduced_size[EK_REDUCTION_RANK];   /* extents that are summed over */
    int32_t reduced_stride[EK_REDUCTION_RANK];
} ek_reduction;

#endif /* EK_REDUCTION_H */
