/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * int8 to int16: y = (x - x_zero_point) * factor + y_zero_point, clamped.
 *
 * x: int8 [count]; y: int16 [count], must not overlap x.
 */
#ifndef EK_REQUANTIZE_S8_S16_H
#define EK_REQUANTIZE_S8_S16_H

#include "ek_requantize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef ek_requantize_params ek_requantize_s8_s16_params;

void EK_FN(requantize_s8_s16)(const ek_requantize_s8_s16_params *p, const int8_t *x, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_REQUANTIZE_S8_S16_H */
