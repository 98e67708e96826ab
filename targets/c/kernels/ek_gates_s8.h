/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The weighted sums of a recurrent layer's gates: int8 products to int16 in steps of 1/4096.
 */
#ifndef EK_GATES_S8_H
#define EK_GATES_S8_H

#include "ek_curve_s16.h"
#include "ek_dot_s8.h"

/* Steps of 1/4096 to those of the curves' table, 1/12288. */
#define EK_GATE_TO_CURVE 3

/* Weights of one operand of the gates, x or h. */
typedef struct {
    const int8_t *weights;     /* [rows,count] */
    const int32_t *bias;       /* [rows] or NULL */
    const int32_t *multiplier; /* [rows] */
    const int8_t *shift;       /* [rows] */
    int32_t count;
    int32_t zero_point; /* of the operand */
} ek_gate_weights_s8;

static inline int32_t ek_saturate_s16(int32_t x) { return ek_clamp_s32(x, INT16_MIN, INT16_MAX); }

/* arguments[j] = sat16((0 or arguments[j]) + requantize(sum of (x - zero_point) * weights[j]
 * + bias[j])). */
static inline void ek_gate_arguments_s8(
    const ek_gate_weights_s8 *gate,
    const int8_t *x,
    int32_t rows,
    int32_t carry_on,
    int16_t *arguments)
{
    const int8_t *w = gate->weights;
    for (int32_t row = 0; row < rows;) {
        const int32_t block = rows - row < 4 ? 1 : 4;
        int32_t sums[4] = {0, 0, 0, 0};
        if (block == 4) {
            ek_dot4_s8(x, w, gate->count, gate->count, gate->zero_point, sums);
        } else {
            sums[0] = ek_dot_s8(x, w, gate->count, gate->zero_point);
        }
        for (int32_t i = 0; i < block; ++i, ++row, ++arguments) {
            const int32_t bias = gate->bias == NULL ? 0 : gate->bias[row];
            const int32_t sum = ek_add_wrap_s32(sums[i], bias);
            const int32_t scaled =
                ek_requantize_double(sum, gate->multiplier[row], gate->shift[row]);
            /* Beyond 2^30 the result is saturated whatever it is added to. */
            const int32_t bounded = ek_clamp_s32(scaled, -(1 << 30), 1 << 30);
            *arguments = (int16_t)ek_saturate_s16(bounded + (carry_on ? *arguments : 0));
        }
        w += block * gate->count;
    }
}

static inline int32_t ek_gate_sigmoid(const int16_t *table, int32_t argument)
{
    return ek_sigmoid_scaled_s16(table, argument * EK_GATE_TO_CURVE);
}
static inline int32_t ek_gate_tanh(const int16_t *table, int32_t argument)
{
    return ek_tanh_scaled_s16(table, argument * EK_GATE_TO_CURVE);
}

#endif /* EK_GATES_S8_H */
