/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = min(max(x, clamp_min), clamp_max), x and y of one quantisation.
 *
 * x, y: int16 [count]; y may be x.
 */
#ifndef EK_CLIP_S16_H
#define EK_CLIP_S16_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
    int32_t clamp_min; /* bounds of y */
    int32_t clamp_max;
} ek_clip_s16_params;

void EK_FN(clip_s16)(const ek_clip_s16_params *p, const int16_t *x, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_CLIP_S16_H */
