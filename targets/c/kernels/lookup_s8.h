/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * y = table[x + 128]: any function of one int8.
 *
 * x: int8 [count]; table: int8 [256], entry i the result for i - 128; y: int8 [count], may be x.
 */
#ifndef EK_LOOKUP_S8_H
#define EK_LOOKUP_S8_H

#include "ek_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t count; /* elements */
} ek_lookup_s8_params;

void EK_FN(lookup_s8)(
    const ek_lookup_s8_params *p, const int8_t *x, const int8_t *table, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_LOOKUP_S8_H */
