/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = scale * (x - zero_point), one rounding.
 *
 * x: int8 [count]; y: float32 [count], must not overlap x.
 */
#ifndef EK_DEQUANTIZE_S8_H
#define EK_DEQUANTIZE_S8_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
    float scale;
    int32_t zero_point;
} ek_dequantize_s8_params;

void EK_FN(dequantize_s8)(const ek_dequantize_s8_params *p, const int8_t *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_DEQUANTIZE_S8_H */
