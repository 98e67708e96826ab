/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Windows of convolutions over bit sets.
 */
#ifndef EK_SPIKE_CONV_WINDOW_H
#define EK_SPIKE_CONV_WINDOW_H

#include "ek_convolution.h"
#include "ek_spike.h"

/* The runs of neurons under a window, of one group of channels. */
typedef struct {
    ek_convolution_runs runs;
    int32_t first;     /* neuron of the window's first tap in the set, input channel 0 */
    int32_t first_tap; /* input of the sum that it is */
} ek_spike_place;

EK_SPIKE_INLINE ek_spike_place ek_spike_locate(
    const ek_convolution_shape *window, int32_t groups, int32_t row, int32_t column)
{
    const int32_t depth = window->channels / groups;
    const ek_convolution_window found = ek_convolution_locate(window, 0, row, column);
    ek_spike_place place;

    place.runs = ek_convolution_steps(window, depth);
    ek_convolution_enter(
        &place.runs, &found, depth, groups == 1 && window->dilation_width == 1);
    place.first = found.offset;
    place.first_tap = found.tap * depth;
    return place;
}

#endif /* EK_SPIKE_CONV_WINDOW_H */
