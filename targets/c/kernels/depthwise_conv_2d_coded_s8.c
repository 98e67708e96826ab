/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "depthwise_conv_2d_coded_s8.h"

#include "ek_coded_convolution.h"

/* Writes the outputs of a block. */
EK_CODED_APART void depthwise_coded_store_s8(
    const ek_depthwise_conv_2d_coded_s8_params *p,
    const ek_total *outputs,
    const ek_block *block,
    int32_t channel,
    int8_t *y)
{
    ek_block_store(&p->shape, outputs, block, channel, NULL, NULL, y);
}

void EK_FN(depthwise_conv_2d_coded_s8)(
    const ek_depthwise_conv_2d_coded_s8_params *p,
    const int8_t *x,
    const uint8_t *w,
    const uint8_t *factors,
    const int16_t *levels,
    const void *bias,
    const void *multiplier,
    const int8_t *shift,
    int8_t *y)
{
    const ek_convolution_shape *s = &p->shape;
    const int32_t factor = s->y_channels / s->channels;
    const int32_t step = s->dilation_width * s->channels;
    const ek_coded weights = {&p->coding, w, factors, levels};
    const ek_output output = {
        p->int64_totals, p->y_zero_point, p->clamp_min, p->clamp_max, multiplier, shift};
    const ek_filter filter = {s, 1, 1, p->x_zero_point};

    for (int32_t n = 0; n < s->batches; ++n) {
        ek_block block = {0, 0, 0};
        for (ek_block_next(s, &block); block.count > 0; ek_block_next(s, &block)) {
            const int8_t *x_channel = x;
            int32_t left = factor;
            for (int32_t channel = 0; channel < s->y_channels; ++channel) {
                ek_total totals[EK_PIXELS];
                ek_block_start(&block, bias, p->int64_totals, channel, totals);
                ek_filter_block(&filter, &weights, channel, x_channel, step, &block, totals);
                ek_block_requantize(&output, channel, block.count, totals);
                depthwise_coded_store_s8(p, totals, &block, channel, y);
                if (--left == 0) {
                    left = factor;
                    ++x_channel;
                }
            }
        }
        x += s->height * s->width * s->channels;
        y += s->y_height * s->y_width * s->y_channels;
    }
}
