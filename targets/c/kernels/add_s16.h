/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = a + b between three quantisations, clamped.
 *
 * a, b: int16, of any shapes that broadcast, described by walk; y: int16, in row-major order.
 * y may be a or b where that has y's shape.
 */
#ifndef EK_ADD_S16_H
#define EK_ADD_S16_H

#include "ek_broadcast.h"
#include "ek_sum.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_broadcast walk;
    ek_sum_params quant;
} ek_add_s16_params;

void EK_FN(add_s16)(const ek_add_s16_params *p, const int16_t *a, const int16_t *b, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_ADD_S16_H */
