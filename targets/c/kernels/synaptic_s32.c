/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "synaptic_s32.h"

typedef struct {
    const int32_t *x;
    const int32_t *u;
    const int32_t *i;
    const int32_t *alpha;
    const int32_t *beta;
    const int32_t *threshold;
    const int32_t *bias;
    int32_t *u_next;
    int32_t *i_next;
} synaptic_run_s32;

/* The spikes of `count` neurons, 32 at most, with any parameters. */
static uint32_t synaptic_any_s32(
    const ek_synaptic_s32_params *params, const synaptic_run_s32 *r, int32_t count)
{
    const ek_neuron_shape *const p = &params->shape;
    uint32_t bits = 0;

    for (int32_t n = 0; n < count; ++n) {
        const int32_t u = r->u[n];
        const int32_t threshold =
            r->threshold == NULL ? INT32_MAX : r->threshold[n * p->threshold_step];
        int32_t current = ek_decay(r->i[n], r->alpha[n * params->alpha_step]);
        int32_t after = ek_decay(u, r->beta[n * p->beta_step]);

        current = ek_add_wrap_s32(current, ek_mul_wrap_s32(r->x[n], p->scale));
        if (r->bias != NULL) {
            current = ek_add_wrap_s32(current, r->bias[n * p->bias_step]);
        }
        current = ek_limited(current, p->limit);
        after = ek_add_wrap_s32(after, current);
        if (u > threshold && p->reset == EK_RESET_SUBTRACT) {
            after = ek_sub_wrap_s32(after, threshold);
        } else if (u > threshold && p->reset == EK_RESET_ZERO) {
            after = 0;
        }
        after = ek_limited(after, p->limit);
        r->i_next[n] = current;
        r->u_next[n] = after;
        bits |= (uint32_t)(after > threshold) << n;
    }
    return bits;
}

void EK_FN(synaptic_s32)(
    const ek_synaptic_s32_params *params,
    const int32_t *x,
    const int32_t *u,
    const int32_t *i,
    const int32_t *alpha,
    const int32_t *beta,
    const int32_t *threshold,
    const int32_t *bias,
    int32_t *s,
    int32_t *u_next,
    int32_t *i_next)
{
    const ek_neuron_shape *const p = &params->shape;

    for (int32_t n = 0; n < p->batches; ++n) {
        int32_t filled = 0; /* bits of the word at s */
        for (int32_t row = 0; row < p->rows; ++row) {
            for (int32_t first = 0; first < p->row;) {
                const int32_t count = ek_min_s32(32 - filled, p->row - first);
                synaptic_run_s32 r;

                r.x = x;
                r.u = u;
                r.i = i;
                r.alpha = alpha + first * params->alpha_step;
                r.beta = beta + first * p->beta_step;
                r.threshold = threshold == NULL ? NULL : threshold + first * p->threshold_step;
                r.bias = bias == NULL ? NULL : bias + first * p->bias_step;
                r.u_next = u_next;
                r.i_next = i_next;
                ek_spike_put(&s, &filled, synaptic_any_s32(params, &r, count), count);
                x += count;
                u += count;
                i += count;
                u_next += count;
                i_next += count;
                first += count;
            }
        }
        s += filled != 0;
    }
}
