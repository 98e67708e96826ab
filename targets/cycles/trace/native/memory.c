/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "memory.h"

#include <stddef.h>
#include <stdlib.h>

#define NOWHERE UINT64_MAX /* the number of no line: every line has bytes above its first */
#define MOST_LINES ((uint64_t)1 << 24)

typedef struct {
    ek_cache_shape shape;
    uint64_t *lines; /* set by set, in each the line used last first */
} cache;

/* A cache line that is being read, or was the last to be: it came part by part, the wanted part
 * first, then the others in a circle. */
typedef struct {
    const cache *into; /* NULL before the first one */
    uint64_t line;
    uint64_t first_part;
    int64_t first_arrival;
    int64_t rest; /* the n-th part after the first arrives n periods after this */
} line_fill;

typedef struct {
    ek_memory_shape shape;
    int64_t period; /* of reading one line */
    cache *caches[EK_SIDES];
    uint64_t at_hand[EK_SIDES]; /* the line read last */
    uint64_t ahead;             /* the line prefetched last, and when it arrives */
    int64_t ahead_arrival;
    int64_t busy; /* until when a read is under way */
    line_fill fill;
} memory;

struct ek_memories {
    memory *memories;
    uint64_t memory_count;
    cache *caches;
    uint64_t cache_count;
};

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- caches ---- */

static uint64_t *set_of(const cache *in, uint64_t line)
{
    return in->lines + line % in->shape.sets * in->shape.ways;
}

/* Position of a line in its set, the number of ways where it is not there. */
static uint64_t find(const cache *in, uint64_t line)
{
    const uint64_t *set = set_of(in, line);
    uint64_t way = 0;
    while (way < in->shape.ways && set[way] != line) {
        way++;
    }
    return way;
}

/* Make a line the one used last; a new one takes the place of the one not used for longest.
 * Returns whether it was there. */
static int touch(cache *in, uint64_t line)
{
    uint64_t *set = set_of(in, line);
    const uint64_t found = find(in, line);
    const int there = found < in->shape.ways;
    uint64_t way = there ? found : in->shape.ways - 1;
    for (; way > 0; way--) {
        set[way] = set[way - 1];
    }
    set[0] = line;
    return there;
}

/* ---- reading one line of a memory ---- */

/* The part of a cache line that one read of the memory brings, by an address inside. */
static uint64_t part_of(const memory *from, const cache *in, uint64_t address)
{
    return address % in->shape.line_bytes / from->shape.line_bytes;
}

static uint64_t parts(const memory *from, const cache *in)
{
    const uint64_t count = in->shape.line_bytes / from->shape.line_bytes;
    return count > 0 ? count : 1;
}

/* When the part of a cached line that holds `address` is there: at once, unless the line is just
 * being read. */
static int64_t arrival(const memory *from, const cache *in, uint64_t address, int64_t at)
{
    const line_fill *fill = &from->fill;
    if (fill->into != in || fill->line != address / in->shape.line_bytes) {
        return at;
    }
    const uint64_t count = parts(from, in);
    const uint64_t after = (part_of(from, in, address) + count - fill->first_part) % count;
    const int64_t when =
        after == 0 ? fill->first_arrival : fill->rest + (int64_t)after * from->period;
    return later(at, when);
}

/* Note that the line around `address` comes into a cache, its wanted part first, at `first`. */
static void begin_fill(memory *from, cache *into, uint64_t address, int64_t first)
{
    if (into == NULL) {
        return;
    }
    const int64_t rest = later(first, from->busy);
    from->fill.into = into;
    from->fill.line = address / into->shape.line_bytes;
    from->fill.first_part = part_of(from, into, address);
    from->fill.first_arrival = first;
    from->fill.rest = rest;
    const uint64_t others = parts(from, into) - 1;
    if (others > 0) {
        from->busy = rest + (int64_t)others * from->period;
    }
}

/* Begin to read the line behind the one that runs, unless it is near already. */
static void prefetch(memory *from, uint64_t line, int64_t at)
{
    const cache *in = from->caches[EK_INSTRUCTIONS];
    const uint64_t address = line * from->shape.line_bytes;
    if (!from->shape.prefetches || from->shape.wait_ticks == 0 || line == from->ahead ||
        address >= from->shape.end) {
        return;
    }
    if (in != NULL && find(in, address / in->shape.line_bytes) < in->shape.ways) {
        return;
    }
    from->ahead = line;
    from->ahead_arrival = later(at, from->busy) + from->period;
    from->busy = from->ahead_arrival;
}

/* Read a line that is wanted at `at`; when it arrives. */
static int64_t begin_read(memory *from, int64_t at)
{
    from->busy = later(from->busy, at - EK_TICKS_PER_CYCLE) + from->period;
    return from->busy;
}

/* Store into the cache line around `address`; a line that is not there is read. */
static void write_line(memory *to, cache *in, uint64_t address, int64_t at)
{
    if (!touch(in, address / in->shape.line_bytes) && to->shape.wait_ticks > 0) {
        begin_fill(to, in, address, begin_read(to, at));
    }
}

/* When the line around `address`, wanted at `at`, has arrived. */
static int64_t read_line(memory *from, int side, uint64_t address, int64_t at)
{
    const uint64_t line = address / from->shape.line_bytes;
    if (line == from->at_hand[side]) {
        return at;
    }
    from->at_hand[side] = line;
    cache *in = from->caches[side];
    int64_t ready = at;
    if (in != NULL && touch(in, address / in->shape.line_bytes)) {
        ready = arrival(from, in, address, at);
    } else if (from->shape.wait_ticks == 0) {
        ready = at;
    } else if (side == EK_INSTRUCTIONS && line == from->ahead) {
        ready = later(at, from->ahead_arrival);
        begin_fill(from, in, address, ready);
    } else {
        ready = begin_read(from, at);
        begin_fill(from, in, address, ready);
    }
    if (side == EK_INSTRUCTIONS) {
        prefetch(from, line + 1, ready);
    }
    return ready;
}

/* ---- all memories ---- */

static memory *memory_at(ek_memories *all, uint64_t address)
{
    for (uint64_t i = 0; i < all->memory_count; i++) {
        memory *each = &all->memories[i];
        if (each->shape.origin <= address && address < each->shape.end) {
            return each;
        }
    }
    return NULL;
}

static int64_t read_bytes(ek_memories *all, int side, uint64_t address, uint64_t bytes, int64_t now)
{
    memory *from = memory_at(all, address);
    if (from == NULL || (from->shape.wait_ticks == 0 && from->caches[side] == NULL)) {
        return now;
    }
    const uint64_t width = from->shape.line_bytes;
    const uint64_t last = (address + bytes - 1) / width;
    now = read_line(from, side, address, now);
    for (uint64_t line = address / width + 1; line <= last; line++) {
        now = read_line(from, side, line * width, now);
    }
    return now;
}

int64_t ek_memories_fetch(ek_memories *all, uint64_t address, uint64_t bytes, int64_t now)
{
    return read_bytes(all, EK_INSTRUCTIONS, address, bytes, now);
}

int64_t ek_memories_load(ek_memories *all, uint64_t address, uint64_t bytes, int64_t now)
{
    return read_bytes(all, EK_DATA, address, bytes, now);
}

void ek_memories_store(ek_memories *all, uint64_t address, uint64_t bytes, int64_t now)
{
    memory *to = memory_at(all, address);
    cache *in = to == NULL ? NULL : to->caches[EK_DATA];
    if (in == NULL) {
        return;
    }
    const uint64_t width = in->shape.line_bytes;
    const uint64_t last = (address + bytes - 1) / width;
    write_line(to, in, address, now);
    for (uint64_t line = address / width + 1; line <= last; line++) {
        write_line(to, in, line * width, now);
    }
}

void ek_memories_settle(ek_memories *all)
{
    for (uint64_t i = 0; i < all->memory_count; i++) {
        memory *each = &all->memories[i];
        each->busy = -EK_TICKS_PER_CYCLE;
        each->fill.into = NULL;
        each->ahead_arrival = 0;
    }
}

static void empty_cache(cache *it)
{
    const uint64_t count = it->shape.sets * it->shape.ways;
    for (uint64_t i = 0; i < count; i++) {
        it->lines[i] = NOWHERE;
    }
}

void ek_memories_empty(ek_memories *all)
{
    for (uint64_t i = 0; i < all->cache_count; i++) {
        empty_cache(&all->caches[i]);
    }
    for (uint64_t i = 0; i < all->memory_count; i++) {
        memory *each = &all->memories[i];
        each->ahead = NOWHERE;
        for (int side = 0; side < EK_SIDES; side++) {
            each->at_hand[side] = NOWHERE;
        }
    }
    ek_memories_settle(all);
}

static int cache_is_possible(const ek_cache_shape *shape)
{
    return shape->line_bytes > 1 && shape->sets > 0 && shape->ways > 0 &&
           shape->sets <= MOST_LINES && shape->ways <= MOST_LINES / shape->sets;
}

static int memory_is_possible(const ek_memory_shape *shape, uint64_t cache_count)
{
    for (int side = 0; side < EK_SIDES; side++) {
        const int64_t index = shape->caches[side];
        if (index < -1 || (index >= 0 && (uint64_t)index >= cache_count)) {
            return 0;
        }
    }
    return shape->line_bytes > 1 && shape->wait_ticks >= 0 && shape->origin < shape->end &&
           shape->end <= (uint64_t)1 << 32;
}

static int set_up_cache(cache *it, const ek_cache_shape *shape)
{
    if (!cache_is_possible(shape)) {
        return 0;
    }
    it->shape = *shape;
    it->lines = malloc((size_t)(shape->sets * shape->ways) * sizeof *it->lines);
    return it->lines != NULL;
}

static int set_up_memory(memory *it, const ek_memory_shape *shape, ek_memories *all)
{
    if (!memory_is_possible(shape, all->cache_count)) {
        return 0;
    }
    it->shape = *shape;
    it->period = shape->wait_ticks + EK_TICKS_PER_CYCLE;
    for (int side = 0; side < EK_SIDES; side++) {
        it->caches[side] = shape->caches[side] < 0 ? NULL : &all->caches[shape->caches[side]];
    }
    return 1;
}

ek_memories *ek_memories_create(const ek_memory_shape *memories, uint64_t memory_count,
                                const ek_cache_shape *caches, uint64_t cache_count)
{
    ek_memories *all = calloc(1, sizeof *all);
    if (all == NULL) {
        return NULL;
    }
    /* One more of each than there are: none is no reason to get no memory. */
    all->memories = calloc((size_t)memory_count + 1, sizeof *all->memories);
    all->caches = calloc((size_t)cache_count + 1, sizeof *all->caches);
    int fine = all->memories != NULL && all->caches != NULL;
    for (; fine && all->cache_count < cache_count; all->cache_count++) {
        fine = set_up_cache(&all->caches[all->cache_count], &caches[all->cache_count]);
    }
    for (; fine && all->memory_count < memory_count; all->memory_count++) {
        fine = set_up_memory(&all->memories[all->memory_count], &memories[all->memory_count], all);
    }
    if (!fine) {
        ek_memories_destroy(all);
        return NULL;
    }
    ek_memories_empty(all);
    return all;
}

void ek_memories_destroy(ek_memories *all)
{
    if (all == NULL) {
        return;
    }
    for (uint64_t i = 0; all->caches != NULL && i < all->cache_count; i++) {
        free(all->caches[i].lines);
    }
    free(all->memories);
    free(all->caches);
    free(all);
}
