/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = 1 / (1 + e^-x) in steps of 1/32768.
 *
 * x, y: int16 [count], zero points 0; y may be x. table: int16 [256], see edgekit's
 * sigmoid_table_s16.
 */
#ifndef EK_SIGMOID_S16_H
#define EK_SIGMOID_S16_H

#include "ek_curve_s16.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_curve_s16 curve;
} ek_sigmoid_s16_params;

void EK_FN(sigmoid_s16)(
    const ek_sigmoid_s16_params *p, const int16_t *x, const int16_t *table, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SIGMOID_S16_H */
