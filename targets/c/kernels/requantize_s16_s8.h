/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * int16 to int8: y = (x - x_zero_point) * factor + y_zero_point, clamped.
 *
 * x: int16 [count]; y: int8 [count], must not overlap x.
 */
#ifndef EK_REQUANTIZE_S16_S8_H
#define EK_REQUANTIZE_S16_S8_H

#include "ek_requantize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef ek_requantize_params ek_requantize_s16_s8_params;

void EK_FN(requantize_s16_s8)(const ek_requantize_s16_s8_params *p, const int16_t *x, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_REQUANTIZE_S16_S8_H */
