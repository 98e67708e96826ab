/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sums of the weights of active inputs, many outputs at a time, several in one register.
 *
 * Weights are stored as fields of 8, 4 or 2 bits that hold level + offset, which is not negative.
 * A word has fields of neighbouring outputs, the first one lowest; a *block* is one word or a few,
 * of every input in turn, so that the totals of its outputs stay in registers while the active
 * inputs are gone through. A field must not overflow into the next: each is added up in a lane of
 * twice its width or more, and after `room` inputs at most the lanes are emptied into y. Of a
 * group's outputs as many as fill them are in the largest blocks, the others in smaller ones.
 *
 * Lanes of fields of 8 bits, of a word w3 w2 w1 w0:
 *
 *     high  +=  0 w3  0 w1                 two lanes of 16 bits
 *     raw   += w3 w2 w1 w0                 modulo 2^32
 *     raw - (high << 8)  is the sum of  0 w2  0 w0
 *
 * so that only every second field needs a mask. With fields of 4 bits likewise, in lanes of 8 bits;
 * of fields of 2 bits three of four need one.
 */
#ifndef EK_SPIKE_BLOCK_H
#define EK_SPIKE_BLOCK_H

#include "ek_spike.h"

#define EK_SPIKE_ROOM 64         /* most inputs in a list */
#define EK_SPIKE_MOST_OUTPUTS 32 /* of a block */
#define EK_SPIKE_STEP 16         /* bytes of one input in a block of four words: what lists count */

/* Kinds of fields. */
enum {
    EK_SPIKE_FIELD_8 = 0,
    EK_SPIKE_FIELD_4 = 1,
    EK_SPIKE_FIELD_4_CARRY = 2, /* 15 means 16: levels -8...8, of which 7 is none */
    EK_SPIKE_FIELD_2 = 3
};

/* y[i] = from[i] - start + lane i, for two words of two lanes of 16 bits that alternate. y may be
 * from. */
EK_SPIKE_INLINE void ek_spike_empty_16(
    uint32_t even, uint32_t odd, const int32_t *from, int32_t start, int32_t *y)
{
    const int32_t y0 = from[0] - start + (int32_t)(even & 0xFFFFu);
    const int32_t y1 = from[1] - start + (int32_t)(odd & 0xFFFFu);
    const int32_t y2 = from[2] - start + (int32_t)(even >> 16);
    const int32_t y3 = from[3] - start + (int32_t)(odd >> 16);

    y[0] = y0;
    y[1] = y1;
    y[2] = y2;
    y[3] = y3;
}

/* The same for two words of four lanes of 8 bits. */
EK_SPIKE_INLINE void ek_spike_empty_8(
    uint32_t even, uint32_t odd, const int32_t *from, int32_t start, int32_t *y)
{
    for (int32_t pair = 0; pair < 4; ++pair) {
        const int32_t y0 = from[2 * pair] - start + (int32_t)(even >> (8 * pair) & 0xFFu);
        const int32_t y1 = from[2 * pair + 1] - start + (int32_t)(odd >> (8 * pair) & 0xFFu);
        y[2 * pair] = y0;
        y[2 * pair + 1] = y1;
    }
}

/* y[i] = from[i] - start + sum over the list of field i, for a block of `width` words, 1, 2 or 4,
 * of four fields of 8 bits each. The list is not empty, and a negative number is its end. */
EK_SPIKE_INLINE void ek_spike_block_8(
    int32_t width,
    const int32_t *list,
    const uint32_t *w,
    uint32_t mask,
    const int32_t *from,
    int32_t start,
    int32_t *y)
{
    const int32_t scale = width == 4 ? 0 : (width == 2 ? 1 : 2);
    uint32_t raw0 = 0;
    uint32_t raw1 = 0;
    uint32_t raw2 = 0;
    uint32_t raw3 = 0;
    uint32_t high0 = 0;
    uint32_t high1 = 0;
    uint32_t high2 = 0;
    uint32_t high3 = 0;
    int32_t at = *list;
    do {
        const uint8_t *const row = (const uint8_t *)w + (at >> scale);
        const uint32_t *const words = (const uint32_t *)(const void *)row;
        const uint32_t word0 = words[0];
        raw0 += word0;
        high0 += word0 >> 8 & mask;
        if (width > 1) {
            const uint32_t word1 = words[1];
            raw1 += word1;
            high1 += word1 >> 8 & mask;
        }
        if (width > 2) {
            const uint32_t word2 = words[2];
            const uint32_t word3 = words[3];
            raw2 += word2;
            high2 += word2 >> 8 & mask;
            raw3 += word3;
            high3 += word3 >> 8 & mask;
        }
        at = *++list;
    } while (at >= 0);
    ek_spike_empty_16(raw0 - (high0 << 8), high0, from, start, y);
    if (width > 1) {
        ek_spike_empty_16(raw1 - (high1 << 8), high1, from + 4, start, y + 4);
    }
    if (width > 2) {
        ek_spike_empty_16(raw2 - (high2 << 8), high2, from + 8, start, y + 8);
        ek_spike_empty_16(raw3 - (high3 << 8), high3, from + 12, start, y + 12);
    }
}

/* The same for eight fields of 4 bits in a word. */
EK_SPIKE_INLINE void ek_spike_block_4(
    int32_t width,
    const int32_t *list,
    const uint32_t *w,
    uint32_t mask,
    const int32_t *from,
    int32_t start,
    int32_t *y)
{
    const int32_t scale = width == 4 ? 0 : (width == 2 ? 1 : 2);
    uint32_t raw0 = 0;
    uint32_t raw1 = 0;
    uint32_t raw2 = 0;
    uint32_t raw3 = 0;
    uint32_t high0 = 0;
    uint32_t high1 = 0;
    uint32_t high2 = 0;
    uint32_t high3 = 0;
    int32_t at = *list;
    do {
        const uint8_t *const row = (const uint8_t *)w + (at >> scale);
        const uint32_t *const words = (const uint32_t *)(const void *)row;
        const uint32_t word0 = words[0];
        raw0 += word0;
        high0 += word0 >> 4 & mask;
        if (width > 1) {
            const uint32_t word1 = words[1];
            raw1 += word1;
            high1 += word1 >> 4 & mask;
        }
        if (width > 2) {
            const uint32_t word2 = words[2];
            const uint32_t word3 = words[3];
            raw2 += word2;
            high2 += word2 >> 4 & mask;
            raw3 += word3;
            high3 += word3 >> 4 & mask;
        }
        at = *++list;
    } while (at >= 0);
    ek_spike_empty_8(raw0 - (high0 << 4), high0, from, start, y);
    if (width > 1) {
        ek_spike_empty_8(raw1 - (high1 << 4), high1, from + 8, start, y + 8);
    }
    if (width > 2) {
        ek_spike_empty_8(raw2 - (high2 << 4), high2, from + 16, start, y + 16);
        ek_spike_empty_8(raw3 - (high3 << 4), high3, from + 24, start, y + 24);
    }
}

/* 1 in every field of 4 bits that is 15. */
EK_SPIKE_INLINE uint32_t ek_spike_full(uint32_t word)
{
    word &= word >> 1;
    return word & (word >> 2) & 0x11111111u;
}

/* The same where a field of 15 means 16, for a block of 1 or 2 words: how often is counted in lanes
 * of 4 bits, so that there is room for 15 inputs. */
EK_SPIKE_INLINE void ek_spike_block_4_carry(
    int32_t width,
    const int32_t *list,
    const uint32_t *w,
    uint32_t mask,
    const int32_t *from,
    int32_t start,
    int32_t *y)
{
    const int32_t scale = width == 2 ? 1 : 2;
    uint32_t raw0 = 0;
    uint32_t raw1 = 0;
    uint32_t high0 = 0;
    uint32_t high1 = 0;
    uint32_t full0 = 0;
    uint32_t full1 = 0;
    int32_t at = *list;
    do {
        const uint8_t *const row = (const uint8_t *)w + (at >> scale);
        const uint32_t *const words = (const uint32_t *)(const void *)row;
        const uint32_t word0 = words[0];
        raw0 += word0;
        high0 += word0 >> 4 & mask;
        full0 += ek_spike_full(word0);
        if (width > 1) {
            const uint32_t word1 = words[1];
            raw1 += word1;
            high1 += word1 >> 4 & mask;
            full1 += ek_spike_full(word1);
        }
        at = *++list;
    } while (at >= 0);
    /* A lane takes 15 * 15 + 15. */
    ek_spike_empty_8(
        raw0 - (high0 << 4) + (full0 & mask), high0 + (full0 >> 4 & mask), from, start, y);
    if (width > 1) {
        ek_spike_empty_8(
            raw1 - (high1 << 4) + (full1 & mask),
            high1 + (full1 >> 4 & mask),
            from + 8,
            start,
            y + 8);
    }
}

/* y[i] = from[i] - start + lane i, for four words of four lanes of 8 bits that alternate. */
EK_SPIKE_INLINE void ek_spike_empty_2(
    uint32_t raw,
    uint32_t field1,
    uint32_t field2,
    uint32_t field3,
    const int32_t *from,
    int32_t start,
    int32_t *y)
{
    const uint32_t field0 = raw - (field1 << 2) - (field2 << 4) - (field3 << 6);

    for (int32_t lane = 0; lane < 4; ++lane, from += 4, y += 4) {
        const int32_t shift = 8 * lane;
        const int32_t y0 = from[0] - start + (int32_t)(field0 >> shift & 0xFFu);
        const int32_t y1 = from[1] - start + (int32_t)(field1 >> shift & 0xFFu);
        const int32_t y2 = from[2] - start + (int32_t)(field2 >> shift & 0xFFu);
        const int32_t y3 = from[3] - start + (int32_t)(field3 >> shift & 0xFFu);
        y[0] = y0;
        y[1] = y1;
        y[2] = y2;
        y[3] = y3;
    }
}

/* The same for sixteen fields of 2 bits in a word, for a block of 1 or 2 words. */
EK_SPIKE_INLINE void ek_spike_block_2(
    int32_t width,
    const int32_t *list,
    const uint32_t *w,
    uint32_t mask,
    const int32_t *from,
    int32_t start,
    int32_t *y)
{
    const int32_t scale = width == 2 ? 1 : 2;
    uint32_t raw0 = 0;
    uint32_t raw1 = 0;
    uint32_t first0 = 0;
    uint32_t first1 = 0;
    uint32_t second0 = 0;
    uint32_t second1 = 0;
    uint32_t third0 = 0;
    uint32_t third1 = 0;
    int32_t at = *list;
    do {
        const uint8_t *const row = (const uint8_t *)w + (at >> scale);
        const uint32_t *const words = (const uint32_t *)(const void *)row;
        const uint32_t word0 = words[0];
        raw0 += word0;
        first0 += word0 >> 2 & mask;
        second0 += word0 >> 4 & mask;
        third0 += word0 >> 6 & mask;
        if (width > 1) {
            const uint32_t word1 = words[1];
            raw1 += word1;
            first1 += word1 >> 2 & mask;
            second1 += word1 >> 4 & mask;
            third1 += word1 >> 6 & mask;
        }
        at = *++list;
    } while (at >= 0);
    ek_spike_empty_2(raw0, first0, second0, third0, from, start, y);
    if (width > 1) {
        ek_spike_empty_2(raw1, first1, second1, third1, from + 16, start, y + 16);
    }
}

/* One block of a kind; see ek_spike_block_8. */
EK_SPIKE_INLINE void ek_spike_block(
    int32_t field,
    int32_t width,
    const int32_t *list,
    const uint32_t *w,
    uint32_t mask,
    const int32_t *from,
    int32_t start,
    int32_t *y)
{
    if (field == EK_SPIKE_FIELD_8) {
        ek_spike_block_8(width, list, w, mask, from, start, y);
    } else if (field == EK_SPIKE_FIELD_4) {
        ek_spike_block_4(width, list, w, mask, from, start, y);
    } else if (field == EK_SPIKE_FIELD_4_CARRY) {
        ek_spike_block_4_carry(width, list, w, mask, from, start, y);
    } else {
        ek_spike_block_2(width, list, w, mask, from, start, y);
    }
}

#endif /* EK_SPIKE_BLOCK_H */
