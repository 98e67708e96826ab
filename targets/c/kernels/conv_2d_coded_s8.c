/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conv_2d_coded_s8.h"

#include "ek_coded_convolution.h"

/* Writes the outputs of a block, the residual added. */
EK_CODED_APART void conv_2d_coded_store_s8(
    const ek_conv_2d_coded_s8_params *p,
    const ek_total *outputs,
    const ek_block *block,
    int32_t channel,
    const int8_t *residual,
    int8_t *y)
{
    ek_block_store(&p->shape, outputs, block, channel, &p->residual, residual, y);
}

void EK_FN(conv_2d_coded_s8)(
    const ek_conv_2d_coded_s8_params *p,
    const int8_t *x,
    const uint8_t *w,
    const uint8_t *factors,
    const int16_t *levels,
    const void *bias,
    const void *multiplier,
    const int8_t *shift,
    const int8_t *residual,
    int8_t *y)
{
    const ek_convolution_shape *s = &p->shape;
    const int32_t depth = s->channels / p->groups;
    const int32_t y_depth = s->y_channels / p->groups;
    const int32_t image = s->y_height * s->y_width * s->y_channels;
    const ek_coded weights = {&p->coding, w, factors, levels};
    const int32_t joined = p->groups == 1 && s->dilation_width == 1;
    const ek_output output = {
        p->int64_totals, p->y_zero_point, p->clamp_min, p->clamp_max, multiplier, shift};
    const ek_filter filter = {s, depth, joined, p->x_zero_point};

    for (int32_t n = 0; n < s->batches; ++n) {
        ek_block block = {0, 0, 0};
        for (ek_block_next(s, &block); block.count > 0; ek_block_next(s, &block)) {
            const int8_t *x_group = x;
            int32_t left = y_depth;
            for (int32_t channel = 0; channel < s->y_channels; ++channel) {
                ek_total totals[EK_PIXELS];
                ek_block_start(&block, bias, p->int64_totals, channel, totals);
                ek_filter_block(&filter, &weights, channel, x_group, 1, &block, totals);
                ek_block_requantize(&output, channel, block.count, totals);
                conv_2d_coded_store_s8(p, totals, &block, channel, residual, y);
                if (--left == 0) {
                    left = y_depth;
                    x_group += depth;
                }
            }
        }
        x += s->height * s->width * s->channels;
        y += image;
        residual = residual == NULL ? NULL : residual + image;
    }
}
