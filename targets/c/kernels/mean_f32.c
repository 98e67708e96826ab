/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "mean_f32.h"

static float mean_sum_f32(const ek_reduction *axes, const float *x)
{
    float total = 0.0f;

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

void EK_FN(mean_f32)(const ek_mean_f32_params *p, const float *x, float *y)
{
    const ek_reduction *axes = &p->axes;

    for (int32_t a = 0; a < axes->kept_size[0]; ++a) {
        for (int32_t b = 0; b < axes->kept_size[1]; ++b) {
            const int32_t outer = a * axes->kept_stride[0] + b * axes->kept_stride[1];
            for (int32_t c = 0; c < axes->kept_size[2]; ++c) {
                const int32_t first = outer + c * axes->kept_stride[2];
                const float mean = mean_sum_f32(axes, x + first) / p->count;
                *y++ = ek_clamp_f32(mean, p->clamp_min, p->clamp_max);
            }
        }
    }
}
