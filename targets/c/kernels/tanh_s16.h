/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = tanh(x) in steps of 1/32768.
 *
 * x, y: int16 [count], zero points 0; y may be x. table: int16 [256], see edgekit's
 * sigmoid_table_s16.
 */
#ifndef EK_TANH_S16_H
#define EK_TANH_S16_H

#include "ek_curve_s16.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_curve_s16 curve;
} ek_tanh_s16_params;

void EK_FN(tanh_s16)(
    const ek_tanh_s16_params *p, const int16_t *x, const int16_t *table, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_TANH_S16_H */
