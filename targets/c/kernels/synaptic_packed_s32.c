/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "synaptic_packed_s32.h"

#define SYNAPTIC_WORDS 2 /* of a current: factor, bias */

/* One step of current k. */
EK_SPIKE_INLINE void synaptic_current(
    const int32_t *x,
    const int32_t *i,
    const int32_t *drives,
    int32_t k,
    int32_t scale,
    int32_t limit,
    int32_t *i_next)
{
    const int32_t *const own = drives + SYNAPTIC_WORDS * k;
    const int32_t input = ek_add_wrap_s32(ek_mul_wrap_s32(x[k], scale), own[1]);
    i_next[k] = ek_limited(ek_decay_packed(i[k], own[0], input), limit);
}

EK_SPIKE_INLINE void synaptic_currents(
    const int32_t *x,
    const int32_t *i,
    const int32_t *drives,
    int32_t count,
    int32_t scale,
    int32_t limit,
    int32_t *i_next)
{
    for (; count >= 4; count -= 4) {
        synaptic_current(x, i, drives, 0, scale, limit, i_next);
        synaptic_current(x, i, drives, 1, scale, limit, i_next);
        synaptic_current(x, i, drives, 2, scale, limit, i_next);
        synaptic_current(x, i, drives, 3, scale, limit, i_next);
        x += 4;
        i += 4;
        drives += 4 * SYNAPTIC_WORDS;
        i_next += 4;
    }
    for (int32_t k = 0; k < count; ++k) {
        synaptic_current(x, i, drives, k, scale, limit, i_next);
    }
}

/* All currents, then all membranes: the pointers of either fit into registers, those of both do
 * not. */
void EK_FN(synaptic_packed_s32)(
    const ek_synaptic_packed_s32_params *params,
    const int32_t *x,
    const int32_t *u,
    const int32_t *i,
    const int32_t *drives,
    const int32_t *own,
    int32_t *s,
    int32_t *u_next,
    int32_t *i_next)
{
    const ek_neuron_packed_shape *const p = &params->shape;
    const int32_t row = p->row;
    const int32_t neurons = p->batches * p->rows * row;

    for (int32_t first = 0; first < neurons; first += row) {
        if (p->limit == 0) {
            synaptic_currents(x + first, i + first, drives, row, p->scale, 0, i_next + first);
        } else {
            synaptic_currents(
                x + first, i + first, drives, row, p->scale, p->limit, i_next + first);
        }
    }
    ek_leaky_packed(EK_LEAKY_SCALED, p, i_next, u, own, s, u_next);
}
