/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "mean_s8.h"

static int32_t mean_sum_s8(const ek_reduction *axes, const int8_t *x)
{
    int32_t total = 0;

    for (int32_t a = 0; a < axes->reduced_size[0]; ++a) {
        for (int32_t b = 0; b < axes->reduced_size[1]; ++b) {
            int32_t index = a * axes->reduced_stride[0] + b * axes->reduced_stride[1];
            for (int32_t c = 0; c < axes->reduced_size[2]; ++c) {
                total += x[index];
                index += axes->reduced_stride[2];
            }
        }
    }
    return total;
}

void EK_FN(mean_s8)(const ek_mean_s8_params *p, const int8_t *x, int8_t *y)
{
    const ek_reduction *axes = &p->axes;
    /* Clamped before the zero point is added, so that the addition cannot overflow. */
    const int32_t low = p->clamp_min - p->y_zero_point;
    const int32_t high = p->clamp_max - p->y_zero_point;

    for (int32_t a = 0; a < axes->kept_size[0]; ++a) {
        for (int32_t b = 0; b < axes->kept_size[1]; ++b) {
            const int32_t outer = a * axes->kept_stride[0] + b * axes->kept_stride[1];
            for (int32_t c = 0; c < axes->kept_size[2]; ++c) {
                const int32_t first = outer + c * axes->kept_stride[2];
                const int32_t total = mean_sum_s8(axes, x + first) + p->offset;
                const int32_t mean = ek_requantize_double(total, p->multiplier, p->shift);
                *y++ = (int8_t)(ek_clamp_s32(mean, low, high) + p->y_zero_point);
            }
        }
    }
}
