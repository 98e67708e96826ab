/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The part of string.h that generated code uses, for toolchains without a C library.
 */
#ifndef EK_STRING_H
#define EK_STRING_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif /* EK_STRING_H */
