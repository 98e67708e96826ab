/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * How the weights of a kernel are coded; ek_coded.h says what it means.
 */
#ifndef EK_CODING_H
#define EK_CODING_H

#include "ek_common.h"

/* How codes become integers. */
enum {
    EK_INTEGER = 0, /* two's complement */
    EK_SIGN = 1,    /* 0 is -1, 1 is 1 */
    EK_LEVELS = 2,  /* levels[code] */
    EK_FLOAT = 3,   /* sign, exponent, mantissa with subnormals, in units of the smallest number */
    EK_TRITS = 4
};

/* How codes become factors. */
enum {
    EK_FACTORS_NONE = 0,
    EK_FACTORS_UINT8 = 1, /* the code */
    EK_FACTORS_SHIFT = 2, /* 2^code, code at most 15; 0 for 255 */
    EK_FACTORS_E4M3 = 3   /* the number in units of 2^-9; sign 0, at most 126 */
};

typedef struct {
    int32_t decoder;   /* EK_INTEGER ... EK_TRITS */
    int32_t bits;      /* of a code */
    int32_t mantissa;  /* bits of it, EK_FLOAT */
    int32_t wide;      /* levels need more than 16 bits, EK_FLOAT only */
    int32_t row_bytes;
    int32_t factors;   /* EK_FACTORS_NONE ... EK_FACTORS_E4M3 */
    int32_t group;     /* weights that share a factor; a whole row without */
    int32_t groups;    /* of a row */
} ek_coding;

#endif /* EK_CODING_H */
