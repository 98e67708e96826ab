/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "binarize_s8.h"

void EK_FN(binarize_s8)(const ek_binarize_s8_params *p, const int8_t *x, int8_t *y)
{
    for (const int8_t *const end = x + p->count; x != end;) {
        *y++ = *x++ >= p->x_zero_point ? 1 : -1;
    }
}
