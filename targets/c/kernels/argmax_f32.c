/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "argmax_f32.h"

void EK_FN(argmax_f32)(const ek_argmax_f32_params *p, const float *x, void *y)
{
    int32_t *narrow = (int32_t *)y;
    int64_t *wide = (int64_t *)y;
    for (int32_t outer = 0; outer < p->outer; ++outer) {
        for (int32_t inner = 0; inner < p->inner; ++inner) {
            const float *element = x + inner;
            float best = *element;
            int32_t index = 0;
            for (int32_t i = 1; i < p->length; ++i) {
                element += p->inner;
                if (*element > best) {
                    best = *element;
                    index = i;
                }
            }
            if (p->wide) {
                *wide++ = index;
            } else {
                *narrow++ = index;
            }
        }
        x += p->length * p->inner;
    }
}
