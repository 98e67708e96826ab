/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "sigmoid_f32.h"

void EK_FN(sigmoid_f32)(const ek_sigmoid_f32_params *p, const float *x, float *y)
{
    const float *const end = x + p->count;
    while (x < end) {
        *y++ = ek_sigmoid_f32(*x++);
    }
}
