/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = e^(beta * x) over the sum of these, along rows, in steps of 1/256 from -128 on.
 *
 * x, y: int8 [rows, length]; y may be x.
 */
#ifndef EK_SOFTMAX_S8_H
#define EK_SOFTMAX_S8_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t length;     /* elements of a row, 1...4095 */
    int32_t multiplier; /* beta times the scale of x in steps of 2^-26 */
    int32_t shift;      /* 0...31 */
    int32_t diff_min;   /* elements so far below the row's maximum count as zero */
} ek_softmax_s8_params;

void EK_FN(softmax_s8)(const ek_softmax_s8_params *p, const int8_t *x, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SOFTMAX_S8_H */
