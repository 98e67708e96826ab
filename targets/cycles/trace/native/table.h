/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Arrays that grow, and a table that finds the index of an entry by a pair of numbers.
 */
#ifndef EK_TABLE_H
#define EK_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define EK_NO_INDEX UINT32_MAX

typedef struct {
    uint64_t a, b;
    uint32_t index; /* EK_NO_INDEX: the slot is free */
} ek_slot;

typedef struct {
    ek_slot *slots;
    uint64_t size; /* a power of two, at least twice the entries; 0 before the first */
    uint64_t count;
} ek_table;

/* Index of the entry of (a, b), EK_NO_INDEX where there is none. */
uint32_t ek_table_find(const ek_table *in, uint64_t a, uint64_t b);

/* Enter a pair that is not there. Returns 0 where there is no room. */
int ek_table_add(ek_table *in, uint64_t a, uint64_t b, uint32_t index);

/* `items` with room for one more than `count` of `item` bytes each, which may have moved; `room` is
 * how many there is room for, at most `most`. NULL where there is none; `items` stays then. */
void *ek_grown(void *items, uint64_t *room, uint64_t count, uint64_t most, size_t item);

#endif
