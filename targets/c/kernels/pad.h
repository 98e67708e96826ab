/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Copies x into the middle of y and fills the rest with a constant.
 *
 * Elements of 1, 2, 4 or 8 bytes; x and y are aligned to them. y must not overlap x.
 */
#ifndef EK_PAD_H
#define EK_PAD_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EK_PAD_RANK 6

typedef struct {
    int32_t size[EK_PAD_RANK];   /* extents of x, outermost first, each 1 or more */
    int32_t before[EK_PAD_RANK]; /* elements of y in front of x along each axis */
    int32_t after[EK_PAD_RANK];  /* elements of y behind x along each axis */
    int32_t element_bytes;       /* 1, 2, 4 or 8 */
    uint8_t value[8];            /* bytes of the constant as they lie in memory */
} ek_pad_params;

void EK_FN(pad)(const ek_pad_params *p, const void *x, void *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_PAD_H */
