/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "binarize_s8.h"

void EK_FN(binarize_s8)(const ek_binarize_s8_params *p, const int8_t *x, int8_t *y)
{
    const int32_t level = p->level;
    for (const int8_t *const end = x + p->count; x != end;) {
        *y++ = (int8_t)(*x++ >= p->x_zero_point ? level : -level);
    }
}
