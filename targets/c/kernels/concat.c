/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "concat.h"

void EK_FN(concat)(
    const ek_concat_params *p, const int32_t *bytes, const void *const *x, void *y)
{
    uint8_t *to = (uint8_t *)y;

    for (int32_t outer = 0; outer < p->outer; ++outer) {
        for (int32_t i = 0; i < p->inputs; ++i) {
            memcpy(to, (const uint8_t *)x[i] + outer * bytes[i], (size_t)bytes[i]);
            to += bytes[i];
        }
    }
}
