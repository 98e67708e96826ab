/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What a wrist is doing, from a stream of raw sensor samples.
 *
 * Every sample goes through the pre-processing and one step of the network, and is forgotten: what
 * the network knows of the past is its state. Once a second the activity is printed that it finds
 * so far; after HAR_L2MU_STEPS samples the window is complete, its class is decided, and the next
 * sample begins a window from reset, as in training. A window never spans a gap in the stream.
 */
#include <string.h>

#include "console.h"
#include "har_l2mu.h"
#include "har_l2mu_input.h"
#include "semihosting.h"
#include "stream.h"

#define RECORDING "recording.bin"
#define SECOND 20 /* samples */
#define STATUS_INIT 1

#define ALIGNED(bytes) __attribute__((aligned(bytes)))

/* In the order of the network's scores: that of the data set it was trained on. */
static const char *const activities[] = {
    "dribbling", "catch", "typing", "writing", "clapping", "teeth", "folding",
};
enum { CLASSES = sizeof activities / sizeof activities[0], WIDTH = 9 };

_Static_assert(HAR_L2MU_OUTPUT_0_BYTES == CLASSES * sizeof(har_l2mu_output_0_t), "a name each");
_Static_assert(HAR_L2MU_INPUT_INPUT_0_BYTES == STREAM_CHANNELS * sizeof(float), "a sample");
_Static_assert(HAR_L2MU_INPUT_OUTPUT_0_BYTES == HAR_L2MU_INPUT_0_BYTES, "what is behind it");
_Static_assert(SECOND * 1000u == STREAM_MILLIHERTZ, "the rate it was trained at");

/* The pre-processing: physical units to what the network's input takes. It keeps no state. */
static uint8_t input_arena[HAR_L2MU_INPUT_ARENA_BYTES] ALIGNED(HAR_L2MU_INPUT_ALIGNMENT);
static har_l2mu_input_context input;

/* The network. */
static uint8_t arena[HAR_L2MU_ARENA_BYTES] ALIGNED(HAR_L2MU_ALIGNMENT);
static uint8_t state[HAR_L2MU_STATE_BYTES] ALIGNED(HAR_L2MU_ALIGNMENT);
static har_l2mu_context network;

static line out;

/* One step of the network on a sample. */
static void feed(const stream *from, const stream_sample *sample)
{
    float *values = har_l2mu_input_input_0(&input);
    for (int c = 0; c < STREAM_CHANNELS; c++) {
        values[c] = from->scale[c] * (float)sample->counts[c];
    }
    har_l2mu_input_run(&input);
    memcpy(har_l2mu_input_0(&network), har_l2mu_input_output_0(&input), HAR_L2MU_INPUT_0_BYTES);
    har_l2mu_step(&network);
}

/* The class with the most output spikes since reset, the first one of equals. */
static int decide(void)
{
    const har_l2mu_output_0_t *scores = har_l2mu_output_0(&network);
    int best = 0;
    for (int i = 1; i < CLASSES; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    return best;
}

/* Begin a line with the time at which a sampling instant ends. */
static void print_time(uint32_t counter)
{
    const uint32_t hundredths = (counter % SECOND + 1) * (100 / SECOND);
    line_number(&out, "", counter / SECOND + hundredths / 100, 6);
    line_number(&out, ".", hundredths / 10 % 10, 0);
    line_number(&out, "", hundredths % 10, 0);
    line_text(&out, " s  ", 0);
}

static void print_gap(const stream_sample *sample, uint32_t filled)
{
    print_time(sample->counter - 1);
    line_number(&out, "gap: samples missing ", sample->missing, 0);
    line_number(&out, ", dropped of the unfinished window ", filled, 0);
    line_print(&out);
}

static void print_window(uint32_t number)
{
    line_number(&out, "  window ", number, 5);
    line_text(&out, "  scores", 0);
    for (int i = 0; i < CLASSES; i++) {
        line_number(&out, "", (uint32_t)har_l2mu_output_0(&network)[i], 4);
    }
}

static void print_total(uint32_t number, const char *what)
{
    line_number(&out, "", number, 6);
    line_text(&out, " ", 0);
    line_text(&out, what, 0);
    line_print(&out);
}

int main(void)
{
    if (har_l2mu_input_init(&input, input_arena, NULL, NULL) != HAR_L2MU_INPUT_OK ||
        har_l2mu_init(&network, arena, state, NULL) != HAR_L2MU_OK) {
        return STATUS_INIT;
    }
    uint32_t windows = 0, gaps = 0, counts[CLASSES] = {0};
    uint32_t filled = 0; /* samples of the window that is being filled */
    stream from;
    stream_sample sample;
    stream_status status = stream_open(&from, RECORDING);
    while (status == STREAM_SAMPLE && (status = stream_next(&from, &sample)) == STREAM_SAMPLE) {
        if (sample.missing > 0) {
            print_gap(&sample, filled);
            filled = 0;
            gaps++;
        }
        if (filled == 0) {
            har_l2mu_reset(&network);
        }
        feed(&from, &sample);
        filled++;
        if (filled % SECOND == 0) {
            const int activity = decide();
            print_time(sample.counter);
            line_text(&out, activities[activity], filled == HAR_L2MU_STEPS ? WIDTH : 0);
            if (filled == HAR_L2MU_STEPS) {
                print_window(windows++);
                counts[activity]++;
                filled = 0;
            }
            line_print(&out);
        }
    }
    line_text(&out, "recording ", 0);
    line_text(&out, stream_words(status), 0);
    line_print(&out);
    print_total(windows, "windows");
    for (int i = 0; i < CLASSES; i++) {
        print_total(counts[i], activities[i]);
    }
    print_total(gaps, "gaps");
    print_total(filled, "samples of an unfinished window");
    return (int)status;
}
