/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * int16 to int16: y = (x - x_zero_point) * factor + y_zero_point, clamped.
 *
 * x: int16 [count]; y: int16 [count], may be x.
 */
#ifndef EK_REQUANTIZE_S16_S16_H
#define EK_REQUANTIZE_S16_S16_H

#include "ek_requantize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef ek_requantize_params ek_requantize_s16_s16_params;

void EK_FN(requantize_s16_s16)(const ek_requantize_s16_s16_params *p, const int16_t *x, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_REQUANTIZE_S16_S16_H */
