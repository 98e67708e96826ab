/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "lstm_s8.h"

#include "ek_gates_s8.h"

/* One step of one sequence of the batch: the gates' arguments into state and memory. */
static void lstm_s8_update(
    const ek_lstm_s8_params *p,
    const int16_t *arguments,
    const int16_t *table,
    int8_t *state,
    int16_t *memory)
{
    const int16_t *const input = arguments;
    const int16_t *const output = input + p->units;
    const int16_t *const forget = output + p->units;
    const int16_t *const cell = forget + p->units;

    for (int32_t i = 0; i < p->units; ++i) {
        const int32_t kept =
            ek_rounding_right_shift(ek_gate_sigmoid(table, forget[i]) * memory[i], 15);
        const int32_t fresh = ek_rounding_right_shift(
            ek_gate_sigmoid(table, input[i]) * ek_gate_tanh(table, cell[i]), p->cell_shift);
        const int32_t sum = ek_saturate_s16(kept + fresh);
        const int32_t shown = ek_tanh_scaled_s16(table, ek_curve_rescale(&p->cell, sum));
        const int32_t hidden = ek_requantize_double(
            ek_gate_sigmoid(table, output[i]) * shown, p->hidden_multiplier, p->hidden_shift);
        const int32_t bounded = ek_clamp_s32(hidden, -(1 << 30), 1 << 30);
        memory[i] = (int16_t)sum;
        state[i] = (int8_t)ek_clamp_s32(bounded + p->h_zero_point, INT8_MIN, INT8_MAX);
    }
}

void EK_FN(lstm_s8)(
    const ek_lstm_s8_params *p,
    const int8_t *x,
    const int8_t *w,
    const int8_t *r,
    const int32_t *bias,
    const int32_t *x_multiplier,
    const int8_t *x_shift,
    const int32_t *h_multiplier,
    const int8_t *h_shift,
    const int16_t *table,
    const int8_t *h,
    const int16_t *c,
    int8_t *y,
    int8_t *h_next,
    int16_t *c_next,
    void *scratch)
{
    const int32_t units = p->units;
    const size_t states = (size_t)(p->batch * units);
    const ek_gate_weights_s8 from_x = {w, bias, x_multiplier, x_shift, p->inputs, p->x_zero_point};
    const ek_gate_weights_s8 from_h = {r, NULL, h_multiplier, h_shift, units, p->h_zero_point};
    int16_t *const arguments = scratch;

    if (h == NULL) {
        memset(h_next, p->h_zero_point, states);
    } else if (h_next != h) {
        memcpy(h_next, h, states);
    }
    if (c == NULL) {
        memset(c_next, 0, states * sizeof *c_next);
    } else if (c_next != c) {
        memcpy(c_next, c, states * sizeof *c_next);
    }
    for (int32_t step = 0; step < p->steps; ++step) {
        const int32_t t = p->reverse ? p->steps - 1 - step : step;
        for (int32_t n = 0; n < p->batch; ++n) {
            const int32_t row = t * p->batch + n;
            int8_t *const state = h_next + n * units;

            ek_gate_arguments_s8(&from_x, x + row * p->inputs, 4 * units, 0, arguments);
            ek_gate_arguments_s8(&from_h, state, 4 * units, 1, arguments);
            lstm_s8_update(p, arguments, table, state, c_next + n * units);
            memcpy(y + row * units, state, (size_t)units);
        }
    }
}
