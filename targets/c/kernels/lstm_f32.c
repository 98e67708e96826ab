/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "lstm_f32.h"

#include "ek_gates_f32.h"

void EK_FN(lstm_f32)(
    const ek_lstm_f32_params *p,
    const float *x,
    const float *w,
    const float *r,
    const float *bias,
    const float *h,
    const float *c,
    float *y,
    float *h_next,
    float *c_next,
    void *scratch)
{
    const int32_t units = p->units;
    const size_t state_bytes = (size_t)(p->batch * units) * sizeof *y;
    float *const input = scratch;
    const float *const output = input + units;
    const float *const forget = output + units;
    const float *const cell = forget + units;

    if (h == NULL) {
        memset(h_next, 0, state_bytes);
    } else if (h_next != h) {
        memcpy(h_next, h, state_bytes);
    }
    if (c == NULL) {
        memset(c_next, 0, state_bytes);
    } else if (c_next != c) {
        memcpy(c_next, c, state_bytes);
    }
    for (int32_t step = 0; step < p->steps; ++step) {
        const int32_t t = p->reverse ? p->steps - 1 - step : step;
        for (int32_t n = 0; n < p->batch; ++n) {
            const int32_t row = t * p->batch + n;
            float *const state = h_next + n * units;
            float *const memory = c_next + n * units;

            ek_gate_sums_f32(x + row * p->inputs, w, p->inputs, 4 * units, 0, input);
            ek_gate_sums_f32(state, r, units, 4 * units, 1, input);
            ek_gate_bias_f32(bias, 4 * units, input);
            for (int32_t i = 0; i < units; ++i) {
                const float kept = ek_sigmoid_f32(forget[i]) * memory[i];
                const float fresh = ek_sigmoid_f32(input[i]) * ek_tanh_f32(cell[i]);
                memory[i] = kept + fresh;
                state[i] = ek_sigmoid_f32(output[i]) * ek_tanh_f32(memory[i]);
            }
            memcpy(y + row * units, state, (size_t)units * sizeof *y);
        }
    }
}
