/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What the float32 neurons share.
 */
#ifndef EK_NEURON_F32_H
#define EK_NEURON_F32_H

#include "ek_ieee.h"
#include "ek_neuron.h"

/* Behind a membrane: 1 where it is above the threshold, else 0. */
static inline float ek_above_f32(float u, const float *threshold)
{
    return threshold != NULL && u > *threshold ? 1.0f : 0.0f;
}

static inline float ek_input_f32(float x, const float *bias) { return bias == NULL ? x : x + *bias; }

/* Element i of a parameter that may be absent. */
static inline const float *ek_parameter_f32(const float *values, int32_t i)
{
    return values == NULL ? NULL : values + i;
}

#endif /* EK_NEURON_F32_H */
