/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Leaky integrate-and-fire neurons with packed parameters: see leaky_packed_s32.h.
 */
#ifndef EK_LEAKY_PACKED_H
#define EK_LEAKY_PACKED_H

#include "ek_neuron_packed.h"

/* Words of a neuron: factor, threshold, and bias where its current is yet to be scaled. */
enum { EK_LEAKY_SCALED = 2, EK_LEAKY_RAW = 3 };

typedef struct {
    const int32_t *x;
    const int32_t *u;
    const int32_t *own;
    int32_t *u_next;
} ek_leaky_run;

/* One step of neuron i of a run; its spike becomes bit `place` of `bits`. */
EK_SPIKE_INLINE void ek_leaky_neuron(
    int32_t words,
    const ek_leaky_run *r,
    int32_t i,
    int32_t scale,
    int32_t limit,
    int32_t place,
    uint32_t *bits)
{
    const int32_t *const own = r->own + words * i;
    const int32_t before = r->u[i];
    int32_t factor = own[0];
    int32_t threshold = own[1];
    int32_t after = r->x[i];

    if (words == EK_LEAKY_RAW) {
        EK_TOGETHER(factor, threshold, after);
        after = ek_add_wrap_s32(ek_mul_wrap_s32(after, scale), own[2]);
    }
    after = ek_decay_packed(before, factor, after);
    if (before > threshold) {
        after = ek_sub_wrap_s32(after, threshold);
    }
    after = ek_limited(after, limit);
    r->u_next[i] = after;
    if (after > threshold) {
        *bits |= (uint32_t)1 << place;
    }
}

/* The words of bits of `count` neurons, the last one filled up with 0. Eight spikes come in at the
 * upper end of a word at a time, so that it alone has to stay in a register. */
EK_SPIKE_INLINE void ek_leaky_words(
    int32_t words, ek_leaky_run r, int32_t count, int32_t scale, int32_t limit, int32_t *s)
{
    const int32_t eights = count & ~7;
    int32_t done = 0;
    uint32_t bits = 0;

    while (done != eights) {
        bits >>= 8;
        ek_leaky_neuron(words, &r, 0, scale, limit, 24, &bits);
        ek_leaky_neuron(words, &r, 1, scale, limit, 25, &bits);
        ek_leaky_neuron(words, &r, 2, scale, limit, 26, &bits);
        ek_leaky_neuron(words, &r, 3, scale, limit, 27, &bits);
        ek_leaky_neuron(words, &r, 4, scale, limit, 28, &bits);
        ek_leaky_neuron(words, &r, 5, scale, limit, 29, &bits);
        ek_leaky_neuron(words, &r, 6, scale, limit, 30, &bits);
        ek_leaky_neuron(words, &r, 7, scale, limit, 31, &bits);
        r.x += 8;
        r.u += 8;
        r.own += 8 * words;
        r.u_next += 8;
        done += 8;
        if ((done & 31) == 0) {
            *s++ = (int32_t)bits;
        }
    }
    done &= 31;
    bits = done == 0 ? 0 : bits >> (32 - done);
    count &= 7;
    for (int32_t i = 0; i < count; ++i) {
        ek_leaky_neuron(words, &r, i, scale, limit, done + i, &bits);
    }
    if (done + count > 0) {
        *s = (int32_t)bits;
    }
}

EK_SPIKE_INLINE void ek_leaky_packed(
    int32_t words,
    const ek_neuron_packed_shape *p,
    const int32_t *x,
    const int32_t *u,
    const int32_t *own,
    int32_t *s,
    int32_t *u_next)
{
    for (int32_t n = 0; n < p->batches; ++n) {
        int32_t filled = 0; /* bits of the word at s */
        for (int32_t row = 0; row < p->rows; ++row) {
            for (int32_t i = 0; i < p->row;) {
                /* What begins at a word's beginning goes into place at once. */
                const int32_t direct = filled == 0;
                const int32_t left = p->row - i;
                const int32_t count = direct ? left : ek_min_s32(32 - filled, left);
                const ek_leaky_run r = {x, u, own + words * i, u_next};
                int32_t word;
                int32_t *const to = direct ? s : &word;

                if (p->limit == 0) {
                    ek_leaky_words(words, r, count, p->scale, 0, to);
                } else {
                    ek_leaky_words(words, r, count, p->scale, p->limit, to);
                }
                if (direct) {
                    s += count >> 5;
                    filled = count & 31;
                } else {
                    ek_spike_put(&s, &filled, (uint32_t)word, count);
                }
                x += count;
                u += count;
                u_next += count;
                i += count;
            }
        }
        s += filled != 0;
    }
}

#endif /* EK_LEAKY_PACKED_H */
