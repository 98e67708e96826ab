/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "table.h"

#include <stdlib.h>

#define FIRST_SIZE 256

static uint64_t mixed(uint64_t a, uint64_t b)
{
    uint64_t hash = (a ^ (b << 32 | b >> 32)) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

/* The slot that holds (a, b), or the free one where it would go. The table has slots. */
static ek_slot *slot_of(const ek_table *in, uint64_t a, uint64_t b)
{
    uint64_t at = mixed(a, b) & (in->size - 1);
    for (;;) {
        ek_slot *slot = &in->slots[at];
        if (slot->index == EK_NO_INDEX || (slot->a == a && slot->b == b)) {
            return slot;
        }
        at = (at + 1) & (in->size - 1);
    }
}

uint32_t ek_table_find(const ek_table *in, uint64_t a, uint64_t b)
{
    return in->size == 0 ? EK_NO_INDEX : slot_of(in, a, b)->index;
}

static int resize(ek_table *it, uint64_t size)
{
    ek_table larger = {NULL, size, it->count};
    if (size > SIZE_MAX / sizeof *larger.slots) {
        return 0;
    }
    larger.slots = malloc((size_t)size * sizeof *larger.slots);
    if (larger.slots == NULL) {
        return 0;
    }
    for (uint64_t i = 0; i < size; i++) {
        larger.slots[i].index = EK_NO_INDEX;
    }
    for (uint64_t i = 0; i < it->size; i++) {
        const ek_slot *slot = &it->slots[i];
        if (slot->index != EK_NO_INDEX) {
            *slot_of(&larger, slot->a, slot->b) = *slot;
        }
    }
    free(it->slots);
    *it = larger;
    return 1;
}

int ek_table_add(ek_table *in, uint64_t a, uint64_t b, uint32_t index)
{
    if (2 * (in->count + 1) > in->size && !resize(in, in->size > 0 ? 2 * in->size : FIRST_SIZE)) {
        return 0;
    }
    ek_slot *slot = slot_of(in, a, b);
    slot->a = a;
    slot->b = b;
    slot->index = index;
    in->count++;
    return 1;
}

void *ek_grown(void *items, uint64_t *room, uint64_t count, uint64_t most, size_t item)
{
    if (count < *room) {
        return items;
    }
    uint64_t size = *room > 0 ? 2 * *room : FIRST_SIZE;
    if (size > most) {
        size = most;
    }
    if (count >= size || size > SIZE_MAX / item) {
        return NULL;
    }
    void *grown = realloc(items, (size_t)size * item);
    if (grown != NULL) {
        *room = size;
    }
    return grown;
}
