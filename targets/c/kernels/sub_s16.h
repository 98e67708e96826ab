/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = a - b between three quantisations, clamped.
 *
 * a, b: int16, of any shapes that broadcast, described by walk; y: int16, in row-major order.
 * y may be a or b where that has y's shape.
 */
#ifndef EK_SUB_S16_H
#define EK_SUB_S16_H

#include "ek_broadcast.h"
#include "ek_sum.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_broadcast walk;
    ek_sum_params quant;
} ek_sub_s16_params;

void EK_FN(sub_s16)(const ek_sub_s16_params *p, const int16_t *a, const int16_t *b, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_SUB_S16_H */
