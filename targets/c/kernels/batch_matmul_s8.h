/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Product of two computed matrices.
 *
 * a: int8 [...,M,K]; b: int8 [...,K,N] or [...,N,K]; y: int8 [...,M,N]. y must not overlap a or b.
 *
 * y = clamp(requantize(sum of (a - a_zero_point) * (b - b_zero_point)) + y_zero_point), rounded
 * double. Sums of at most 33025 products fit int32.
 */
#ifndef EK_BATCH_MATMUL_S8_H
#define EK_BATCH_MATMUL_S8_H

#include "ek_batch_matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_batch_matmul_shape shape;
    int32_t a_zero_point; /* -128...127 */
    int32_t b_zero_point;
    int32_t y_zero_point;
    int32_t multiplier; /* 0 or in [2^30, 2^31) */
    int32_t shift;      /* -31...30 */
    int32_t clamp_min;  /* bounds of y in -128...127 */
    int32_t clamp_max;
} ek_batch_matmul_s8_params;

void EK_FN(batch_matmul_s8)(
    const ek_batch_matmul_s8_params *p, const int8_t *a, const int8_t *b, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_BATCH_MATMUL_S8_H */
