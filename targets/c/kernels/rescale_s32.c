/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rescale_s32.h"

void EK_FN(rescale_s32)(
    const ek_rescale_s32_params *p,
    const int32_t *u,
    const int32_t *factor,
    const int32_t *acc,
    int32_t *y)
{
    /* Copies: y could alias *p for all that the compiler knows. */
    const int32_t row = p->row;
    const int32_t step = p->factor_step;
    const int32_t shift = p->shift;
    const int64_t half = shift == 0 ? 0 : (int64_t)1 << (shift - 1);

    for (int32_t n = 0; n < p->rows; ++n) {
        for (int32_t i = 0; i < row; ++i) {
            const int64_t sum = (int64_t)u[i] * factor[i * step] + half;
            const uint32_t scaled = (uint32_t)(uint64_t)(sum >> shift);

            y[i] = (int32_t)(acc == NULL ? scaled : scaled + (uint32_t)acc[i]);
        }
        u += row;
        y += row;
        acc = acc == NULL ? NULL : acc + row;
    }
}
