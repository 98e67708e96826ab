/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = e^(beta * x) over the sum of these, along rows, in steps of 1/32768.
 *
 * x, y: int16 [rows, length], zero points 0; y may be x.
 * exp_table, reciprocal_table: int16 [513], see edgekit's softmax_tables_s16.
 */
#ifndef EK_SOFTMAX_S16_H
#define EK_SOFTMAX_S16_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t length;     /* elements of a row, 1...65535 */
    int32_t multiplier; /* beta times the scale of x in steps of 10/65535 */
    int32_t shift;
} ek_softmax_s16_params;

void EK_FN(softmax_s16)(
    const ek_softmax_s16_params *p, const int16_t *x, const int16_t *exp_table, const int16_t
    *reciprocal_table, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SOFTMAX_S16_H */
