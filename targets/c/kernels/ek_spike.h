/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Bit sets of spikes: bit i % 32 of word i / 32 is neuron i; bits behind the last neuron are
 * written 0 and never read.
 */
#ifndef EK_SPIKE_H
#define EK_SPIKE_H

#include "ek_common.h"

#if defined(__GNUC__)
#define EK_SPIKE_INLINE static inline __attribute__((always_inline))
#else
#define EK_SPIKE_INLINE static inline
#endif

/* Words of a bit set. */
static inline int32_t ek_spike_words(int32_t neurons) { return (neurons + 31) >> 5; }

/* Place of the lowest set bit of a word that is not 0. */
#if defined(__GNUC__) && !(defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__))
static inline int32_t ek_spike_lowest(uint32_t word) { return __builtin_ctz(word); }
#else
/* Without an instruction that counts: the top five bits of a de Bruijn sequence, shifted by the
 * place, are different for every place. */
static inline int32_t ek_spike_lowest(uint32_t word)
{
    static const uint8_t places[32] = {0,  1,  28, 2,  29, 14, 24, 3,  30, 22, 20, 15, 25, 17, 4, 8,
                                       31, 27, 13, 23, 21, 19, 16, 7,  26, 12, 18, 6,  11, 5,  10, 9};
    return places[((word & (0u - word)) * 0x077CB531u) >> 27];
}
#endif

/* The lowest `count` bits of a word; count 1...32. */
static inline uint32_t ek_spike_mask(int32_t count) { return UINT32_MAX >> (32 - count); }

/* What is left of a run of neurons. */
typedef struct {
    const int32_t *next; /* word behind `bits` */
    uint32_t bits;       /* set ones are still to come */
    int32_t place;       /* of bit 0, from the beginning of the run */
    int32_t count;       /* neurons of the run */
} ek_spike_scan;

/* Neurons first...first + count - 1 of a bit set; count is 1 at least. */
static inline ek_spike_scan ek_spike_begin(const int32_t *s, int32_t first, int32_t count)
{
    ek_spike_scan scan;

    scan.next = s + (first >> 5);
    scan.place = -(first & 31);
    scan.count = count;
    scan.bits = (uint32_t)*scan.next++ & (UINT32_MAX << (first & 31));
    if (scan.place + 32 > count) {
        scan.bits &= ek_spike_mask(count - scan.place);
    }
    return scan;
}

/* Append `step` times (base + i) to list[found...] for active neurons i of the run, until the run
 * is at its end or the list holds `room`. Returns how many it holds. */
EK_SPIKE_INLINE int32_t ek_spike_collect(
    ek_spike_scan *scan, int32_t base, int32_t step, int32_t *list, int32_t found, int32_t room)
{
    uint32_t bits = scan->bits;
    int32_t place = scan->place;

    for (;;) {
        const int32_t begin = (base + place) * step;
        while (bits != 0) {
            if (found == room) {
                scan->bits = bits;
                scan->place = place;
                return found;
            }
            list[found++] = begin + ek_spike_lowest(bits) * step;
            bits &= bits - 1u;
        }
        place += 32;
        if (place >= scan->count) {
            break;
        }
        bits = (uint32_t)*scan->next++;
        if (place + 32 > scan->count) {
            bits &= ek_spike_mask(scan->count - place);
        }
    }
    scan->bits = 0;
    scan->place = place;
    return found;
}

/* x[i] = 1 where neuron first + i is active, else 0, for i < count. */
static inline void ek_spike_expand_s8(const int32_t *s, int32_t first, int32_t count, int8_t *x)
{
    s += first >> 5;
    uint32_t bits = (uint32_t)*s >> (first & 31);
    int32_t left = 32 - (first & 31);

    while (count > 0) {
        const int32_t run = ek_min_s32(left, count);
        for (const int8_t *end = x + run; x != end; bits >>= 1) {
            *x++ = (int8_t)(bits & 1u);
        }
        count -= run;
        left = 32;
        if (count > 0) {
            bits = (uint32_t)*++s;
        }
    }
}

#endif /* EK_SPIKE_H */
