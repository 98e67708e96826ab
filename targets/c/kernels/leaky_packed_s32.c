/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "leaky_packed_s32.h"

void EK_FN(leaky_packed_s32)(
    const ek_leaky_packed_s32_params *p,
    const int32_t *x,
    const int32_t *u,
    const int32_t *own,
    int32_t *s,
    int32_t *u_next)
{
    ek_leaky_packed(EK_LEAKY_RAW, &p->shape, x, u, own, s, u_next);
}
