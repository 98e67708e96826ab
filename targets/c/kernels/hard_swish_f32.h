/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = x * min(max(x + 3, 0), 6) / 6, clamped, in this order.
 *
 * x, y: float32 [count]; y may be x.
 */
#ifndef EK_HARD_SWISH_F32_H
#define EK_HARD_SWISH_F32_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count;   /* elements */
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_hard_swish_f32_params;

void EK_FN(hard_swish_f32)(const ek_hard_swish_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_HARD_SWISH_F32_H */
