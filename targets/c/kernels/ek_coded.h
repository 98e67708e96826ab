/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Coded weights: packed rows, and their decoding into tiles of at most EK_TILE integers. Nothing
 * else of them is ever unpacked.
 *
 * Row r of w begins at w + r * row_bytes and is a little-endian string of bits, code j in its bits
 * j * bits ... j * bits + bits - 1; or, in trits, five codes a byte, sum of (t_i + 1) * 3^i.
 * Factor f of row r is factors[r * groups + f], one for each `group` weights; the last group of a
 * row may be shorter.
 *
 *     total = sum over groups of factor * (sum over the group of (x - x_zero_point) * w)
 *
 * Bounds. Whoever calls a kernel warrants that 255 * sum of factor * |w| over a row, plus |bias|,
 * is below 2^31 where totals are int32, and at most 2^53 where they are int64. Every partial sum of
 * such a total, factors multiplied or not yet, lies within the same bound (a factor is 0 or at
 * least 1; what a 0 multiplies is covered next), so additions cannot overflow in any order.
 * Integers of one tile or run are added up in int32 before their factor: narrow levels are at most
 * 2^15 and inputs less their zero point at most 255 in magnitude, so that 256 products are at most
 * 256 * 255 * 2^15 = 2139095040 < 2^31; runs are at most 240 long, tiles EK_TILE. Levels wider than
 * int16 are summed in int64.
 */
#ifndef EK_CODED_H
#define EK_CODED_H

#include "ek_coding.h"

/* What the weights of the Program need. ek_config.h defines EK_CODED_CHOSEN, and as 1 what that is;
 * where it says nothing, everything is there. What is 0 leaves no code behind. */
#ifdef EK_CODED_CHOSEN
#define EK_CODED_OTHERS 0
#else
#define EK_CODED_OTHERS 1
#endif
#ifndef EK_CODED_INTEGER
#define EK_CODED_INTEGER EK_CODED_OTHERS
#endif
#ifndef EK_CODED_SIGN
#define EK_CODED_SIGN EK_CODED_OTHERS
#endif
#ifndef EK_CODED_LEVELS
#define EK_CODED_LEVELS EK_CODED_OTHERS
#endif
#ifndef EK_CODED_FLOAT
#define EK_CODED_FLOAT EK_CODED_OTHERS
#endif
#ifndef EK_CODED_TRITS
#define EK_CODED_TRITS EK_CODED_OTHERS
#endif
#ifndef EK_CODED_2_BITS
#define EK_CODED_2_BITS EK_CODED_OTHERS
#endif
#ifndef EK_CODED_3_BITS
#define EK_CODED_3_BITS EK_CODED_OTHERS
#endif
#ifndef EK_CODED_4_BITS
#define EK_CODED_4_BITS EK_CODED_OTHERS
#endif
#ifndef EK_CODED_8_BITS
#define EK_CODED_8_BITS EK_CODED_OTHERS
#endif
#ifndef EK_CODED_INT16
#define EK_CODED_INT16 EK_CODED_OTHERS
#endif
#ifndef EK_CODED_WIDE
#define EK_CODED_WIDE EK_CODED_OTHERS
#endif
#ifndef EK_CODED_INT64
#define EK_CODED_INT64 EK_CODED_OTHERS
#endif
#ifndef EK_CODED_INT64_TOTALS
#define EK_CODED_INT64_TOTALS EK_CODED_OTHERS
#endif

#if defined(__GNUC__)
#define EK_CODED_INLINE static inline __attribute__((always_inline))
#define EK_CODED_APART static __attribute__((noinline)) /* spares its caller's registers */
#else
#define EK_CODED_INLINE static inline
#define EK_CODED_APART static
#endif

typedef struct {
    const ek_coding *coding;
    const uint8_t *w;
    const uint8_t *factors; /* NULL without */
    const int16_t *levels;  /* NULL but for EK_LEVELS */
} ek_coded;

/* What holds a decoded weight, as narrow as the Program's weights allow. */
#if EK_CODED_INT16
typedef int16_t ek_narrow;
#else
typedef int8_t ek_narrow;
#endif
#if EK_CODED_INT64
typedef int64_t ek_wide; /* FP8 E5M2: up to 7 * 2^29 */
#else
typedef int32_t ek_wide; /* FP8 E4M3: up to 7 * 2^15 */
#endif

#define EK_TILE 64 /* decoded weights at a time */

/* Factor number `group` of a row. */
static inline int32_t ek_coded_factor(const ek_coded *w, int32_t row, int32_t group)
{
    if (w->coding->factors == EK_FACTORS_NONE) {
        return 1;
    }
    const int32_t code = w->factors[row * w->coding->groups + group];
    if (w->coding->factors == EK_FACTORS_SHIFT) {
        return code < 31 ? (int32_t)1 << code : 0;
    }
    if (w->coding->factors == EK_FACTORS_E4M3 && code >= 8) {
        return (8 + (code & 7)) << ((code >> 3) - 1);
    }
    return code;
}

/* Bias of an output, which is int32 or int64; 0 where there is none. */
static inline int64_t ek_coded_bias(const void *bias, int32_t is_int64, int32_t output)
{
    if (bias == NULL) {
        return 0;
    }
    return is_int64 ? ((const int64_t *)bias)[output] : ((const int32_t *)bias)[output];
}

/* A packed row from one code on. */
typedef struct {
    const uint8_t *next;
    uint32_t window;
    int32_t have; /* bits in window */
} ek_codes;

static inline ek_codes ek_codes_from(const uint8_t *row, int32_t first, int32_t bits)
{
    const int32_t position = first * bits;
    ek_codes codes = {row + (position >> 3), 0, 0};
    if ((position & 7) != 0) {
        codes.window = (uint32_t)*codes.next++ >> (position & 7);
        codes.have = 8 - (position & 7);
    }
    return codes;
}

/* The next code; no byte is read before it is needed. */
static inline uint32_t ek_codes_next(ek_codes *codes, int32_t bits)
{
    if (codes->have < bits) {
        codes->window |= (uint32_t)*codes->next++ << codes->have;
        codes->have += 8;
    }
    const uint32_t code = codes->window & (((uint32_t)1 << bits) - 1u);
    codes->window >>= bits;
    codes->have -= bits;
    return code;
}

static inline ek_wide ek_coded_float(const ek_coding *c, uint32_t code)
{
    const uint32_t sign = (uint32_t)1 << (c->bits - 1);
    const uint32_t implicit = (uint32_t)1 << c->mantissa;
    const uint32_t exponent = (code & (sign - 1u)) >> c->mantissa;
    ek_wide value = (ek_wide)(code & (implicit - 1u));
    if (exponent != 0) {
        value = (value + (ek_wide)implicit) << (exponent - 1u);
    }
    return (code & sign) != 0 ? -value : value;
}

/* Eight codes of `bits` bits, 1...4, the first one lowest. */
EK_CODED_INLINE uint32_t ek_coded_word(const uint8_t *w, int32_t bits)
{
    uint32_t word = w[0];
    if (bits > 1) {
        word |= (uint32_t)w[1] << 8;
    }
    if (bits > 2) {
        word |= (uint32_t)w[2] << 16;
    }
    if (bits > 3) {
        word |= (uint32_t)w[3] << 24;
    }
    return word;
}

/* Code number `index` of a word, as its level or as two's complement. */
EK_CODED_INLINE int32_t ek_coded_value(
    uint32_t word, int32_t bits, int32_t index, const int16_t *levels)
{
    if (levels != NULL) {
        return levels[(word >> (bits * index)) & (((uint32_t)1 << bits) - 1u)];
    }
    return (int32_t)(word << (32 - bits * (index + 1))) >> (32 - bits);
}

/* The first codes of a row from a byte border on, eight at a time; returns how many. */
EK_CODED_INLINE int32_t ek_coded_eights(
    const uint8_t *packed, int32_t count, int32_t bits, const int16_t *levels, ek_narrow *tile)
{
    const int32_t whole = ek_min_s32(count, EK_TILE) & ~(int32_t)7;
    for (int32_t i = 0; i < whole; packed += bits) {
        uint32_t word = ek_coded_word(packed, bits);
        for (const int32_t eighth = i + 8; i < eighth; ++i, word >>= bits) {
            tile[i] = (ek_narrow)ek_coded_value(word, bits, 0, levels);
        }
    }
    return whole;
}

static void ek_coded_trits(const uint8_t *packed, int32_t first, int32_t count, ek_narrow *tile)
{
    const uint8_t *next = packed + first / 5;
    int32_t skip = first % 5;
    for (ek_narrow *const end = tile + count; tile != end;) {
        uint32_t digits = *next++;
        for (int32_t digit = 0; digit < 5 && tile != end; ++digit) {
            const uint32_t rest = (digits * 171u) >> 9; /* a third, exact below 2^8 */
            if (skip > 0) {
                --skip;
            } else {
                *tile++ = (ek_narrow)((int32_t)(digits - 3u * rest) - 1);
            }
            digits = rest;
        }
    }
}

/* Weights first...first + count - 1 of a row whose levels fit int16; count at most EK_TILE. */
static void ek_coded_decode(
    const ek_coded *w, int32_t row, int32_t first, int32_t count, ek_narrow *tile)
{
    const ek_coding *c = w->coding;
    const uint8_t *packed = w->w + row * c->row_bytes;
    const int32_t bits = c->bits;
    ek_narrow *const end = tile + count;
    ek_codes codes;

    if (EK_CODED_TRITS && c->decoder == EK_TRITS) {
        ek_coded_trits(packed, first, count, tile);
        return;
    }
    if ((first & 7) == 0) {
        const uint8_t *eights = packed + (first >> 3) * bits;
        const int16_t *levels = w->levels;
        int32_t done = 0;
        if (EK_CODED_INTEGER && c->decoder == EK_INTEGER) {
            if (EK_CODED_2_BITS && bits == 2) {
                done = ek_coded_eights(eights, count, 2, NULL, tile);
            } else if (EK_CODED_3_BITS && bits == 3) {
                done = ek_coded_eights(eights, count, 3, NULL, tile);
            } else if (EK_CODED_4_BITS && bits == 4) {
                done = ek_coded_eights(eights, count, 4, NULL, tile);
            }
        } else if (EK_CODED_LEVELS && c->decoder == EK_LEVELS) {
            if (EK_CODED_2_BITS && bits == 2) {
                done = ek_coded_eights(eights, count, 2, levels, tile);
            } else if (EK_CODED_3_BITS && bits == 3) {
                done = ek_coded_eights(eights, count, 3, levels, tile);
            } else if (EK_CODED_4_BITS && bits == 4) {
                done = ek_coded_eights(eights, count, 4, levels, tile);
            }
        }
        first += done;
        tile += done;
    }
    if (tile == end) {
        return;
    }
    codes = ek_codes_from(packed, first, bits);
#define EK_DECODE_REST(value) \
    do { \
        const uint32_t code = ek_codes_next(&codes, bits); \
        *tile++ = (ek_narrow)(value); \
    } while (tile != end)
    if (EK_CODED_INTEGER && c->decoder == EK_INTEGER) {
        EK_DECODE_REST((int32_t)(code << (32 - bits)) >> (32 - bits));
    } else if (EK_CODED_SIGN && c->decoder == EK_SIGN) {
        EK_DECODE_REST(2 * (int32_t)code - 1);
    } else if (EK_CODED_LEVELS && c->decoder == EK_LEVELS) {
        EK_DECODE_REST(w->levels[code]);
    } else if (EK_CODED_FLOAT && c->decoder == EK_FLOAT) {
        EK_DECODE_REST(ek_coded_float(c, code));
    }
#undef EK_DECODE_REST
}

/* The same where they do not. */
static void ek_coded_decode_wide(
    const ek_coded *w, int32_t row, int32_t first, int32_t count, ek_wide *tile)
{
    const ek_coding *c = w->coding;
    ek_codes codes = ek_codes_from(w->w + row * c->row_bytes, first, c->bits);
    for (ek_wide *const end = tile + count; tile != end; ++tile) {
        *tile = ek_coded_float(c, ek_codes_next(&codes, c->bits));
    }
}

#endif /* EK_CODED_H */
