/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "tanh_f32.h"

void EK_FN(tanh_f32)(const ek_tanh_f32_params *p, const float *x, float *y)
{
    const float *const end = x + p->count;
    while (x < end) {
        *y++ = ek_tanh_f32(*x++);
    }
}
