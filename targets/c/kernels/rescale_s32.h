/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Integers in other steps, added to what is there.
 *
 * u: int32 [rows,row]; factor: int32, 0 or more, with `row` elements or, where its step is 0, one;
 * acc: int32 as u, or NULL. y: int32 as u; may be u or acc, may not overlap an input otherwise.
 *
 * y = acc + ((factor * u + 2^(shift-1)) >> shift), the product exact, the sum wrapping; a shift of 0
 * rounds nothing.
 */
#ifndef EK_RESCALE_S32_H
#define EK_RESCALE_S32_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t rows;
    int32_t row; /* elements that have factors of their own */
    int32_t factor_step;
    int32_t shift; /* 0...61 */
} ek_rescale_s32_params;

void EK_FN(rescale_s32)(
    const ek_rescale_s32_params *p,
    const int32_t *u,
    const int32_t *factor,
    const int32_t *acc,
    int32_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_RESCALE_S32_H */
