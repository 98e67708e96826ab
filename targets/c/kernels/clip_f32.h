/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = min(max(x, clamp_min), clamp_max).
 *
 * x, y: float32 [count]; y may be x.
 */
#ifndef EK_CLIP_F32_H
#define EK_CLIP_F32_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_clip_f32_params;

void EK_FN(clip_f32)(const ek_clip_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CLIP_F32_H */
