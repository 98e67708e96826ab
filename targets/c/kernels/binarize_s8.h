/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = x >= x_zero_point ? level : -level.
 *
 * x: int8 [count]; y: int8 [count], may be x.
 */
#ifndef EK_BINARIZE_S8_H
#define EK_BINARIZE_S8_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
    int32_t x_zero_point;
    int32_t level; /* 1...127 */
} ek_binarize_s8_params;

void EK_FN(binarize_s8)(const ek_binarize_s8_params *p, const int8_t *x, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_BINARIZE_S8_H */
