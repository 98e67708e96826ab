/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Shapes of the batch_matmul kernels.
 */
#ifndef EK_BATCH_MATMUL_H
#define EK_BATCH_MATMUL_H

#include "ek_common.h"

#define EK_BATCH_MATMUL_RANK 3

/* a[...,rows,depth] times b gives y[...,rows,columns]; three leading axes, outermost first. */
typedef struct {
    int32_t batch[EK_BATCH_MATMUL_RANK];   /* extents of y, 1 where there is no axis */
    int32_t a_batch[EK_BATCH_MATMUL_RANK]; /* elements from one index to the next, 0 broadcasts */
    int32_t b_batch[EK_BATCH_MATMUL_RANK];
    int32_t rows;
    int32_t depth;
    int32_t columns;
    int32_t b_step;   /* elements of b from one summand to the next */
    int32_t b_column; /* from one column to the next */
} ek_batch_matmul_shape;

#endif /* EK_BATCH_MATMUL_H */
