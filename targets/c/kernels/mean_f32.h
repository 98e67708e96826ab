/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Mean over axes.
 *
 * x: float32; y: float32, the kept axes of x in their order. y must not overlap x.
 * Sums run in row-major order of the reduced axes, from +0; one division.
 */
#ifndef EK_MEAN_F32_H
#define EK_MEAN_F32_H

#include "ek_ieee.h"
#include "ek_reduction.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_reduction axes;
    float count;     /* of elements in a sum */
    float clamp_min; /* bounds of y; infinite for none */
    float clamp_max;
} ek_mean_f32_params;

void EK_FN(mean_f32)(const ek_mean_f32_params *p, const float *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_MEAN_F32_H */
