/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "synaptic_f32.h"

void EK_FN(synaptic_f32)(
    const ek_synaptic_f32_params *params,
    const float *x,
    const float *u,
    const float *i,
    const float *alpha,
    const float *beta,
    const float *threshold,
    const float *bias,
    int32_t *s,
    float *u_next,
    float *i_next)
{
    const ek_neuron_shape *const p = &params->shape;

    for (int32_t n = 0; n < p->batches; ++n) {
        uint32_t bits = 0;
        int32_t filled = 0;
        for (int32_t row = 0; row < p->rows; ++row) {
            for (int32_t k = 0; k < p->row; ++k) {
                const float *const limit = ek_parameter_f32(threshold, k * p->threshold_step);
                const float *const offset = ek_parameter_f32(bias, k * p->bias_step);
                const float before = *u++;
                const float reset = ek_above_f32(before, limit);
                const float current =
                    alpha[k * params->alpha_step] * *i++ + ek_input_f32(*x++, offset);
                float after = beta[k * p->beta_step] * before + current;

                if (p->reset == EK_RESET_SUBTRACT) {
                    after -= reset * *limit;
                } else if (p->reset == EK_RESET_ZERO) {
                    after -= after * reset;
                }
                *i_next++ = current;
                *u_next++ = after;
                if (limit != NULL && after > *limit) {
                    bits |= (uint32_t)1 << filled;
                }
                if (++filled == 32) {
                    *s++ = (int32_t)bits;
                    bits = 0;
                    filled = 0;
                }
            }
        }
        if (filled > 0) {
            *s++ = (int32_t)bits;
        }
    }
}
