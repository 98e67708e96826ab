/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What qemu_plugin.c keeps: straight runs of code, how often each ran and what ran next, and the
 * code's bytes.
 *
 * A straight run is everything until something else than the next instruction was executed. So it
 * does not matter where QEMU cut the code, and branches need not be known: who reads the trace finds
 * those within a run, which were not taken.
 */
#ifndef EK_QEMU_RUNS_H
#define EK_QEMU_RUNS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Code as QEMU cut it. */
typedef struct ek_piece {
    struct ek_piece *next;
    uint32_t address;
    uint32_t bytes;
    uint8_t code[];
} ek_piece;

/* `old` with so many bytes; ends the process where there is no room. */
void *ek_allocate(void *old, size_t bytes);

/* The piece at `address` with these bytes, kept once. */
ek_piece *ek_piece_of(uint32_t address, const uint8_t *code, uint32_t bytes);

/* Count a run in a section, and that `following` ran next. */
void ek_note_run(uint32_t section, uint32_t address, uint32_t bytes, uint32_t following);

/* Write the trace, 32-bit words in this machine's order:
 *   "EKT2", pieces of code, runs, layers entered, layers entered out of order
 *   pieces: address, bytes, then the bytes, padded to a word with zeros
 *   runs:   section, address, bytes, address of what ran next, times (low word, high word) */
void ek_write_runs(FILE *stream, uint32_t entered, uint32_t out_of_order);

#endif
