/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "stream.h"

#include <float.h>

#include "semihosting.h"

/* A counter further ahead than this lies behind instead. */
#define FURTHEST 0x7FFFFFFFu

/* As they lie in the file; every Cortex-M image of ours is little-endian. */
typedef struct {
    uint32_t magic;
    uint32_t channels;
    uint32_t millihertz;
    uint32_t samples;
    float scale[STREAM_CHANNELS];
} header;

typedef struct {
    uint32_t counter;
    int16_t counts[STREAM_CHANNELS];
} record;

_Static_assert(sizeof(header) == 16 + 4 * STREAM_CHANNELS, "the header has no padding");
_Static_assert(sizeof(record) == 4 + 2 * STREAM_CHANNELS, "a record has no padding");

stream_status stream_open(stream *from, const char *name)
{
    header head;
    from->file = ek_open(name, EK_OPEN_READ);
    if (from->file < 0) {
        return STREAM_NO_FILE;
    }
    if (ek_read(from->file, &head, sizeof head) != sizeof head) {
        return STREAM_TRUNCATED;
    }
    if (head.magic != STREAM_MAGIC || head.channels != STREAM_CHANNELS ||
        head.millihertz != STREAM_MILLIHERTZ || head.samples == 0) {
        return STREAM_HEADER;
    }
    for (int c = 0; c < STREAM_CHANNELS; c++) {
        /* Not true of NaN either. */
        if (!(head.scale[c] > 0.0f && head.scale[c] <= FLT_MAX)) {
            return STREAM_HEADER;
        }
        from->scale[c] = head.scale[c];
    }
    from->remaining = head.samples;
    from->has_begun = 0;
    return STREAM_SAMPLE;
}

stream_status stream_next(stream *from, stream_sample *sample)
{
    record next;
    if (from->remaining == 0) {
        return ek_read(from->file, &next, 1) == 0 ? STREAM_END : STREAM_SURPLUS;
    }
    if (ek_read(from->file, &next, sizeof next) != sizeof next) {
        return STREAM_TRUNCATED;
    }
    sample->counter = next.counter;
    sample->missing = from->has_begun ? next.counter - from->expected : 0;
    if (sample->missing > FURTHEST) {
        return STREAM_ORDER;
    }
    for (int c = 0; c < STREAM_CHANNELS; c++) {
        sample->counts[c] = next.counts[c];
    }
    from->expected = next.counter + 1;
    from->has_begun = 1;
    from->remaining--;
    return STREAM_SAMPLE;
}

const char *stream_words(stream_status status)
{
    switch (status) {
    case STREAM_SAMPLE:
        return "a sample";
    case STREAM_END:
        return "complete";
    case STREAM_NO_FILE:
        return "cannot be opened";
    case STREAM_HEADER:
        return "no recording of this sensor: other magic, channels, rate or scale, or no samples";
    case STREAM_TRUNCATED:
        return "cut off: it ends before the last sample that its header promises";
    case STREAM_ORDER:
        return "out of order: a sample is not later than the one before";
    case STREAM_SURPLUS:
        return "longer than its header says";
    }
    return "";
}
