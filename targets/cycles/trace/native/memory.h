/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What a board's memory makes an in-order core wait. The specification is memory.py: every figure
 * here equals that one's, to the tick.
 */
#ifndef EK_MEMORY_H
#define EK_MEMORY_H

#include <stdint.h>

#if defined(__GNUC__)
#define EXPORTED __attribute__((visibility("default")))
#else
#define EXPORTED
#endif

/* Time is counted in parts of a cycle: halves, thirds and quarters are whole numbers of ticks. */
#define EK_TICKS_PER_CYCLE 12

enum { EK_INSTRUCTIONS, EK_DATA, EK_SIDES };

/* A cache: `sets` groups of `ways` lines. */
typedef struct {
    uint64_t line_bytes;
    uint64_t sets;
    uint64_t ways;
} ek_cache_shape;

/* A memory: addresses origin <= a < end, read `line_bytes` at a time. */
typedef struct {
    uint64_t origin;
    uint64_t end;
    uint64_t line_bytes;
    int64_t wait_ticks;
    int64_t prefetches;       /* 1: the next line is read while this one runs */
    int64_t caches[EK_SIDES]; /* index of the cache that serves a side, -1 for none */
} ek_memory_shape;

typedef struct ek_memories ek_memories;

/* Memories with empty caches, or NULL: a shape that cannot be, or no room. */
EXPORTED ek_memories *ek_memories_create(const ek_memory_shape *memories, uint64_t memory_count,
                                         const ek_cache_shape *caches, uint64_t cache_count);
EXPORTED void ek_memories_destroy(ek_memories *all);

/* Forget everything. */
EXPORTED void ek_memories_empty(ek_memories *all);

/* A new call begins, at 0: what was under way has arrived. */
void ek_memories_settle(ek_memories *all);

/* When an instruction of `bytes` bytes that could issue at `now` has arrived. */
int64_t ek_memories_fetch(ek_memories *all, uint64_t address, uint64_t bytes, int64_t now);

/* When the data that a load wants at `now` has arrived. */
int64_t ek_memories_load(ek_memories *all, uint64_t address, uint64_t bytes, int64_t now);

/* A store at `now`: it waits for nothing, but takes its place in a cache of data. */
void ek_memories_store(ek_memories *all, uint64_t address, uint64_t bytes, int64_t now);

#endif
