/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * memcpy, memmove, memset, memcmp: word by word where the addresses allow it.
 *
 * Compiled with -fno-builtin, so that these loops are not turned into calls to themselves.
 */
#include "string.h"

#include <stdint.h>

/* May alias anything, as the bytes behind it have any type. */
typedef uint32_t __attribute__((may_alias)) word;

#define WORD sizeof(word)

static int is_aligned(const void *a)
{
    return ((uintptr_t)a & (WORD - 1)) == 0;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    if ((((uintptr_t)out ^ (uintptr_t)in) & (WORD - 1)) == 0) {
        for (; bytes > 0 && !is_aligned(out); bytes--) {
            *out++ = *in++;
        }
        for (; bytes >= 4 * WORD; bytes -= 4 * WORD) {
            const word a = ((const word *)in)[0];
            const word b = ((const word *)in)[1];
            const word c = ((const word *)in)[2];
            const word d = ((const word *)in)[3];
            ((word *)out)[0] = a;
            ((word *)out)[1] = b;
            ((word *)out)[2] = c;
            ((word *)out)[3] = d;
            out += 4 * WORD;
            in += 4 * WORD;
        }
        for (; bytes >= WORD; bytes -= WORD) {
            *(word *)out = *(const word *)in;
            out += WORD;
            in += WORD;
        }
    }
    for (; bytes > 0; bytes--) {
        *out++ = *in++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    if ((uintptr_t)out - (uintptr_t)in >= bytes) {
        /* Going up never overwrites what is still to be read. */
        return memcpy(to, from, bytes);
    }
    while (bytes > 0) {
        bytes--;
        out[bytes] = in[bytes];
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    unsigned char *out = to;
    const word pattern = (unsigned char)value * 0x01010101u;
    for (; bytes > 0 && !is_aligned(out); bytes--) {
        *out++ = (unsigned char)value;
    }
    for (; bytes >= WORD; bytes -= WORD) {
        *(word *)out = pattern;
        out += WORD;
    }
    for (; bytes > 0; bytes--) {
        *out++ = (unsigned char)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const unsigned char *left = a;
    const unsigned char *right = b;
    for (; bytes > 0; bytes--, left++, right++) {
        if (*left != *right) {
            return *left < *right ? -1 : 1;
        }
    }
    return 0;
}
