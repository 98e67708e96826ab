/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Mean over axes.
 *
 * x: int16; y: int16, the kept axes of x in their order. y must not overlap x.
 * Sums fit int32: at most 65,535 elements are averaged.
 */
#ifndef EK_MEAN_S16_H
#define EK_MEAN_S16_H

#include "ek_reduction.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_reduction axes;
    int32_t offset;       /* added to every sum: minus the zero point of x times the count */
    int32_t multiplier;   /* factor from the sum to y, with the division by the count */
    int32_t shift;        /* -31...30 */
    int32_t y_zero_point;
    int32_t clamp_min;    /* bounds of y in -32768...32767 */
    int32_t clamp_max;
} ek_mean_s16_params;

void EK_FN(mean_s16)(const ek_mean_s16_params *p, const int16_t *x, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_MEAN_S16_H */
