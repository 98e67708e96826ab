/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What the integer neurons share whose parameters lie packed: reset by subtraction, what a
 * neuron has of its own side by side.
 *
 * A factor beta, 0...2^15, is stored as (beta - 2^15) * 2^16, which fits whatever it is; twice its
 * product with a membrane, in 64 bits, has what the membrane loses above the lower 32.
 */
#ifndef EK_NEURON_PACKED_H
#define EK_NEURON_PACKED_H

#include "ek_neuron.h"

/* The compiler is to know nothing of a value from here on: the same product added twice is two
 * instructions as it stands, and four where it is computed once. */
#if defined(__GNUC__)
#define EK_OPAQUE(value) __asm__("" : "+r"(value))
#else
#define EK_OPAQUE(value) ((void)(value))
#endif

/* Three values are in registers before any of them is used: loads in a row overlap, on cores that
 * overlap any. */
#if defined(__GNUC__) && !(defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__))
#define EK_TOGETHER(a, b, c) __asm__("" : "+r"(a), "+r"(b), "+r"(c))
#else
#define EK_TOGETHER(a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

typedef struct {
    int32_t batches;
    int32_t rows;  /* of a batch, which share their parameters */
    int32_t row;   /* neurons of a row */
    int32_t scale; /* 2^fraction */
    int32_t limit; /* 0: none */
} ek_neuron_packed_shape;

/* ek_decay of u by a packed factor, plus more, in two's complement: where products are long, the
 * upper word of a sum with a rounded half. */
EK_SPIKE_INLINE int32_t ek_decay_packed(int32_t u, int32_t factor, int32_t more)
{
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
    /* By halves of u, as ek_decay does. */
    const int32_t less = factor >> 16;
    const int32_t low = ((less * (int32_t)((uint32_t)u & 0xFFFFu) >> 14) + 1) >> 1;
    const int32_t high = (int32_t)((uint32_t)(less * (u >> 16)) << 1);
    return ek_add_wrap_s32(ek_add_wrap_s32(u, more), ek_add_wrap_s32(high, low));
#else
    uint64_t sum = (uint64_t)(uint32_t)ek_add_wrap_s32(u, more) << 32 | 0x80000000u;
    uint32_t low;

    sum += (uint64_t)((int64_t)u * factor);
    low = (uint32_t)sum;
    EK_OPAQUE(low);
    EK_OPAQUE(factor);
    sum = (sum >> 32 << 32 | low) + (uint64_t)((int64_t)u * factor);
    return (int32_t)(sum >> 32);
#endif
}

#endif /* EK_NEURON_PACKED_H */
