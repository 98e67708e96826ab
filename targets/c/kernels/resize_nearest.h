/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Builds an image from chosen rows and columns of another: y[n,r,c] = x[n,rows[r],columns[c]].
 *
 * x and y: [N,H,W,C] with elements of any size. y must not overlap x.
 */
#ifndef EK_RESIZE_NEAREST_H
#define EK_RESIZE_NEAREST_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t batches;     /* N */
    int32_t height;      /* of y, entries of `rows` */
    int32_t width;       /* of y, entries of `columns` */
    int32_t pixel_bytes; /* C times the size of an element */
    int32_t row_bytes;   /* of x */
    int32_t image_bytes; /* of x */
} ek_resize_nearest_params;

void EK_FN(resize_nearest)(
    const ek_resize_nearest_params *p,
    const int32_t *rows,
    const int32_t *columns,
    const void *x,
    void *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_RESIZE_NEAREST_H */
