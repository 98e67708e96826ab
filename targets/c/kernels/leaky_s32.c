/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "leaky_s32.h"

typedef struct {
    const int32_t *x;
    const int32_t *u;
    const int32_t *beta;
    const int32_t *threshold;
    const int32_t *bias;
    int32_t *u_next;
} leaky_run_s32;

/* The spikes of `count` neurons, 32 at most, with any parameters. */
static uint32_t leaky_any_s32(const ek_neuron_shape *p, leaky_run_s32 r, int32_t count)
{
    uint32_t bits = 0;

    for (int32_t i = 0; i < count; ++i) {
        const int32_t before = r.u[i];
        const int32_t threshold =
            r.threshold == NULL ? INT32_MAX : r.threshold[i * p->threshold_step];
        const int32_t spiked = before > threshold;
        const int32_t left = spiked && p->reset == EK_RESET_ZERO ? 0 : before;
        int32_t after = ek_decay(left, r.beta[i * p->beta_step]);

        after = ek_add_wrap_s32(after, ek_mul_wrap_s32(r.x[i], p->scale));
        if (r.bias != NULL) {
            after = ek_add_wrap_s32(after, r.bias[i * p->bias_step]);
        }
        if (spiked && p->reset == EK_RESET_SUBTRACT) {
            after = ek_sub_wrap_s32(after, threshold);
        }
        after = ek_limited(after, p->limit);
        r.u_next[i] = after;
        bits |= (uint32_t)(after > threshold) << i;
    }
    return bits;
}

void EK_FN(leaky_s32)(
    const ek_leaky_s32_params *params,
    const int32_t *x,
    const int32_t *u,
    const int32_t *beta,
    const int32_t *threshold,
    const int32_t *bias,
    int32_t *s,
    int32_t *u_next)
{
    const ek_neuron_shape *const p = &params->shape;

    for (int32_t n = 0; n < p->batches; ++n) {
        int32_t filled = 0; /* bits of the word at s */
        for (int32_t row = 0; row < p->rows; ++row) {
            for (int32_t i = 0; i < p->row;) {
                const int32_t count = ek_min_s32(32 - filled, p->row - i);
                leaky_run_s32 r;

                r.x = x;
                r.u = u;
                r.beta = beta + i * p->beta_step;
                r.threshold = threshold == NULL ? NULL : threshold + i * p->threshold_step;
                r.bias = bias == NULL ? NULL : bias + i * p->bias_step;
                r.u_next = u_next;
                ek_spike_put(&s, &filled, leaky_any_s32(p, r, count), count);
                x += count;
                u += count;
                u_next += count;
                i += count;
            }
        }
        s += filled != 0;
    }
}
