/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "gru_s8.h"

#include "ek_gates_s8.h"

/* The state in steps of y. */
static int8_t gru_s8_shown(const ek_gru_s8_params *p, int32_t h)
{
    const int32_t scaled = ek_requantize_double(h, p->y_multiplier, p->y_shift);
    const int32_t bounded = ek_clamp_s32(scaled, -(1 << 30), 1 << 30);
    return (int8_t)ek_clamp_s32(bounded + p->h_zero_point, INT8_MIN, INT8_MAX);
}

/* The candidate's argument into `candidate`, which holds its sum over x. `seen` is the state as
 * int8; what it points to is overwritten without reset_after. `carried` is scratch. */
static void gru_s8_candidate(
    const ek_gru_s8_params *p,
    const ek_gate_weights_s8 *late,
    const int16_t *reset,
    const int16_t *state,
    int8_t *seen,
    int16_t *candidate,
    int16_t *carried)
{
    if (!p->reset_after) {
        for (int32_t i = 0; i < p->units; ++i) {
            seen[i] = gru_s8_shown(p, ek_rounding_right_shift(reset[i] * state[i], 15));
        }
        ek_gate_arguments_s8(late, seen, p->units, 1, candidate);
        return;
    }
    ek_gate_arguments_s8(late, seen, p->units, 0, carried);
    for (int32_t i = 0; i < p->units; ++i) {
        const int32_t product = ek_rounding_right_shift(reset[i] * carried[i], 15);
        candidate[i] = (int16_t)ek_saturate_s16(candidate[i] + product);
    }
}

void EK_FN(gru_s8)(
    const ek_gru_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int8_t *r,
    const int32_t *bias,
    const int32_t *r_bias,
    const int32_t *x_multiplier,
    const int8_t *x_shift,
    const int32_t *h_multiplier,
    const int8_t *h_shift,
    const int16_t *table,
    const int16_t *h,
    int8_t *y,
    int16_t *h_next,
    void *scratch)
{
    const int32_t units = p->units;
    const size_t state_bytes = (size_t)(p->batch * units) * sizeof *h_next;
    const ek_gate_weights_s8 from_x = {w, bias, x_multiplier, x_shift, p->inputs, p->x_zero_point};
    const ek_gate_weights_s8 from_h = {r, NULL, h_multiplier, h_shift, units, p->h_zero_point};
    const ek_gate_weights_s8 late = {
        r + 2 * units * units,
        r_bias,
        h_multiplier + 2 * units,
        h_shift + 2 * units,
        units,
        p->h_zero_point,
    };
    int16_t *const update = scratch;
    int16_t *const reset = update + units;
    int16_t *const candidate = reset + units;
    int16_t *const carried = candidate + units;

    if (h == NULL) {
        memset(h_next, 0, state_bytes);
    } else if (h_next != h) {
        memcpy(h_next, h, state_bytes);
    }
    for (int32_t step = 0; step < p->steps; ++step) {
        const int32_t t = p->reverse ? p->steps - 1 - step : step;
        for (int32_t n = 0; n < p->batch; ++n) {
            const int32_t row = t * p->batch + n;
            int16_t *const state = h_next + n * units;
            int8_t *const seen = y + row * units; /* until the step's own result is there */

            for (int32_t i = 0; i < units; ++i) {
                seen[i] = gru_s8_shown(p, state[i]);
            }
            ek_gate_arguments_s8(&from_x, x + row * p->inputs, 3 * units, 0, update);
            ek_gate_arguments_s8(&from_h, seen, 2 * units, 1, update);
            for (int32_t i = 0; i < 2 * units; ++i) {
                update[i] = (int16_t)ek_gate_sigmoid(table, update[i]);
            }
            gru_s8_candidate(p, &late, reset, state, seen, candidate, carried);
            for (int32_t i = 0; i < units; ++i) {
                const int32_t fresh = ek_gate_tanh(table, candidate[i]);
                const int32_t change = update[i] * (state[i] - fresh);
                state[i] = (int16_t)(fresh + ek_rounding_right_shift(change, 15));
                seen[i] = gru_s8_shown(p, state[i]);
            }
        }
    }
}
