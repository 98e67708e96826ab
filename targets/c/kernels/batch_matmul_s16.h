/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Product of two computed matrices.
 *
 * a: int16 [...,M,K]; b: int16 [...,K,N] or [...,N,K]; y: int16 [...,M,N].
 * y must not overlap a or b.
 *
 * y = clamp(requantize(sum of a * b)), rounded wide. Sums are int64.
 */
#ifndef EK_BATCH_MATMUL_S16_H
#define EK_BATCH_MATMUL_S16_H

#include "ek_batch_matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_batch_matmul_shape shape;
    int32_t multiplier; /* 0 or in [2^14, 2^15) */
    int32_t shift;      /* -31...14 */
    int32_t clamp_min;  /* bounds of y in -32768...32767 */
    int32_t clamp_max;
} ek_batch_matmul_s16_params;

void EK_FN(batch_matmul_s16)(
    const ek_batch_matmul_s16_params *p, const int16_t *a, const int16_t *b, int16_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_BATCH_MATMUL_S16_H */
