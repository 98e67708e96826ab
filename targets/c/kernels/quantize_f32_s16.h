/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = x / scale rounded, halves away from zero, plus zero_point; saturated.
 *
 * x: float32 [count]; y: int16 [count], must not overlap x.
 */
#ifndef EK_QUANTIZE_F32_S16_H
#define EK_QUANTIZE_F32_S16_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
    float scale;   /* positive */
    int32_t zero_point;
} ek_quantize_f32_s16_params;

void EK_FN(quantize_f32_s16)(const ek_quantize_f32_s16_params *p, const float *x, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_QUANTIZE_F32_S16_H */
