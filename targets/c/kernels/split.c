/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "split.h"

void EK_FN(split)(
    const ek_split_params *p, const int32_t *bytes, const void *x, void *const *y)
{
    const uint8_t *from = (const uint8_t *)x;

    for (int32_t outer = 0; outer < p->outer; ++outer) {
        for (int32_t i = 0; i < p->outputs; ++i) {
            memcpy((uint8_t *)y[i] + outer * bytes[i], from, (size_t)bytes[i]);
            from += bytes[i];
        }
    }
}
