/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What the integer neurons share: decay, reset, limits, and the walk over neurons and words.
 */
#ifndef EK_NEURON_H
#define EK_NEURON_H

#include "ek_spike.h"

/* What a spike does to the membrane. */
enum { EK_RESET_SUBTRACT = 0, EK_RESET_ZERO = 1, EK_RESET_NONE = 2 };

/* Parameters lie in rows of `row` values, which all rows of neurons share; a step is 0 for a single
 * value that all neurons share, else 1. */
typedef struct {
    int32_t batches;
    int32_t rows; /* of a batch */
    int32_t row;  /* neurons of a row */
    int32_t reset;
    int32_t beta_step;
    int32_t threshold_step;
    int32_t bias_step;
    int32_t scale; /* 2^fraction */
    int32_t limit; /* 0: none */
} ek_neuron_shape;

static inline int32_t ek_sub_wrap_s32(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a - (uint32_t)b);
}

static inline int32_t ek_mul_wrap_s32(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a * (uint32_t)b);
}

/* (beta * u + 2^14) >> 15, exactly, for beta in 0...2^15. */
static inline int32_t ek_decay(int32_t u, int32_t beta)
{
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
    /* Without a long multiplication: by halves of u. The upper one's product is a multiple of 2^16,
     * so that only the lower one's is rounded; this one stays below 2^31 + 2^14. */
    const uint32_t low = (uint32_t)beta * ((uint32_t)u & 0xFFFFu) + (1u << 14);
    return (int32_t)(((uint32_t)(beta * (u >> 16)) << 1) + (low >> 15));
#else
    return (int32_t)(((int64_t)u * beta + (1 << 14)) >> 15);
#endif
}

/* A new state within -limit...limit; limit 0 is none. */
static inline int32_t ek_limited(int32_t u, int32_t limit)
{
    if (limit == 0) {
        return u;
    }
    return u > limit ? limit : (u < -limit ? -limit : u);
}

/* `count` bits that follow `filled` ones of the words from `*word` on. */
static inline void ek_spike_put(int32_t **word, int32_t *filled, uint32_t bits, int32_t count)
{
    if (*filled == 0) {
        **word = (int32_t)bits;
    } else {
        **word = (int32_t)((uint32_t)**word | bits << *filled);
    }
    *filled += count;
    if (*filled == 32) {
        *filled = 0;
        ++*word;
    }
}

#endif /* EK_NEURON_H */
