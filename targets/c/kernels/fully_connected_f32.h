/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Fully connected layer.
 *
 * x: float32 [rows,depth]; w: float32 [outputs,depth]; bias: float32 [outputs] or NULL;
 * y: float32 [rows,outputs]. y must not overlap x.
 *
 * y = clamp(sum of x * w, + bias). The sum starts at 0 and adds its products in the order of depth,
 * each product and each sum rounded.
 */
#ifndef EK_FULLY_CONNECTED_F32_H
#define EK_FULLY_CONNECTED_F32_H

#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t depth;
    int32_t outputs;
    float clamp_min; /* bounds of y, may be infinite */
    float clamp_max;
} ek_fully_connected_f32_params;

void EK_FN(fully_connected_f32)(
    const ek_fully_connected_f32_params *p,
    const float *x,
    const float *w,
    const float *bias,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_FULLY_CONNECTED_F32_H */
