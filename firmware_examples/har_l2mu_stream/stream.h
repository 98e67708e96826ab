/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A recording, read sample by sample as a sensor would deliver it.
 *
 * Here it comes from a file of the machine that runs or debugs the image. On a board of your own,
 * the two functions below are the driver: what is behind them does not see the difference.
 *
 * All fields are little-endian. A header:
 *
 *     offset   0  uint32   magic "EKS1"
 *              4  uint32   channels of a sample
 *              8  uint32   samples a second, in thousandths
 *             12  uint32   samples that follow
 *             16  float32  physical units of one count, for each channel
 *
 * then, as often as it says, a sample:
 *
 *     offset   0  uint32   counter: number of the sampling instant; wraps around
 *              4  int16    counts, for each channel
 *
 * A counter that advances by more than one tells of samples that were lost. Sensors without one
 * have an interrupt that can count.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdint.h>

#define STREAM_MAGIC 0x31534B45u /* "EKS1" */
#define STREAM_CHANNELS 6
#define STREAM_MILLIHERTZ 20000u

/* What reading can give; but for the first they end the run, and are its exit status. */
typedef enum {
    STREAM_SAMPLE = -1,
    STREAM_END = 0,       /* behind the last sample */
    STREAM_NO_FILE = 2,   /* it cannot be opened */
    STREAM_HEADER = 3,    /* it is no recording, or one of another sensor */
    STREAM_TRUNCATED = 4, /* it ends before the samples that its header promises, or within one */
    STREAM_ORDER = 5,     /* a counter stands still or goes back */
    STREAM_SURPLUS = 6,   /* something follows the last sample */
} stream_status;

typedef struct {
    int file;
    uint32_t remaining;
    uint32_t expected; /* the next counter */
    int has_begun;
    float scale[STREAM_CHANNELS];
} stream;

typedef struct {
    uint32_t counter;
    uint32_t missing; /* samples lost since the one before; 0 for the first */
    int16_t counts[STREAM_CHANNELS];
} stream_sample;

/* STREAM_SAMPLE where samples can be read, else what is wrong with the file or its header. */
stream_status stream_open(stream *from, const char *name);

/* The next sample, waiting for it where it has not been taken yet. */
stream_status stream_next(stream *from, stream_sample *sample);

/* A status in words. */
const char *stream_words(stream_status status);

#endif /* STREAM_H */
