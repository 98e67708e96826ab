/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "gru_f32.h"

#include "ek_gates_f32.h"

/* The candidate's argument into `candidate`, which holds its sum over x; `carried` is scratch. */
static void gru_f32_candidate(
    const ek_gru_f32_params *p,
    const float *r,
    const float *bias,
    const float *r_bias,
    const float *reset,
    const float *state,
    float *candidate,
    float *carried)
{
    if (p->reset_after) {
        ek_gate_sums_f32(state, r, p->units, p->units, 0, carried);
        ek_gate_bias_f32(r_bias, p->units, carried);
        ek_gate_bias_f32(bias, p->units, candidate);
        for (int32_t i = 0; i < p->units; ++i) {
            candidate[i] = candidate[i] + reset[i] * carried[i];
        }
        return;
    }
    for (int32_t i = 0; i < p->units; ++i) {
        carried[i] = reset[i] * state[i];
    }
    ek_gate_sums_f32(carried, r, p->units, p->units, 1, candidate);
    ek_gate_bias_f32(bias, p->units, candidate);
}

void EK_FN(gru_f32)(
    const ek_gru_f32_params *p,
    const float *x,
    const float *w,
    const float *r,
    const float *bias,
    const float *r_bias,
    const float *h,
    float *y,
    float *h_next,
    void *scratch)
{
    const int32_t units = p->units;
    const size_t state_bytes = (size_t)(p->batch * units) * sizeof *y;
    const float *const candidate_bias = bias == NULL ? NULL : bias + 2 * units;
    float *const update = scratch;
    float *const candidate = update + 2 * units;

    if (h == NULL) {
        memset(h_next, 0, state_bytes);
    } else if (h_next != h) {
        memcpy(h_next, h, state_bytes);
    }
    for (int32_t step = 0; step < p->steps; ++step) {
        const int32_t t = p->reverse ? p->steps - 1 - step : step;
        for (int32_t n = 0; n < p->batch; ++n) {
            const int32_t row = t * p->batch + n;
            float *const state = h_next + n * units;

            ek_gate_sums_f32(x + row * p->inputs, w, p->inputs, 3 * units, 0, update);
            ek_gate_sums_f32(state, r, units, 2 * units, 1, update);
            ek_gate_bias_f32(bias, 2 * units, update);
            for (int32_t i = 0; i < 2 * units; ++i) {
                update[i] = ek_sigmoid_f32(update[i]);
            }
            gru_f32_candidate(
                p,
                r + 2 * units * units,
                candidate_bias,
                r_bias,
                update + units,
                state,
                candidate,
                candidate + units);
            for (int32_t i = 0; i < units; ++i) {
                const float fresh = (1.0f - update[i]) * ek_tanh_f32(candidate[i]);
                state[i] = fresh + update[i] * state[i];
            }
            memcpy(y + row * units, state, (size_t)units * sizeof *y);
        }
    }
}
