/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Fully connected layer of inputs that bring a scale per row; see ek_coded.h for the weights and
 * for the proof that nothing overflows.
 *
 * x: int8 [rows,depth]; x_scale: float32 [rows]; w: packed rows, uint8 [outputs,row_bytes];
 * w_scale: float32 [outputs] or [1]; factors: codes, uint8 [outputs,groups] or NULL; levels: int16
 * [2^bits] or NULL; bias: float32 [outputs] or NULL; y: float32 [rows,outputs]. None may overlap.
 *
 * y = (float)total * (x_scale * w_scale) + bias, every step rounded once.
 */
#ifndef EK_DYNAMIC_FULLY_CONNECTED_S8_H
#define EK_DYNAMIC_FULLY_CONNECTED_S8_H

#include "ek_coding.h"
#include "ek_ieee.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    ek_coding coding;
    int32_t rows;
    int32_t depth;
    int32_t outputs;
    int32_t scales; /* of w, outputs or 1 */
} ek_dynamic_fully_connected_s8_params;

void EK_FN(dynamic_fully_connected_s8)(
    const ek_dynamic_fully_connected_s8_params *p,
    const int8_t *x,
    const float *x_scale,
    const uint8_t *w,
    const uint8_t *factors,
    const int16_t *levels,
    const float *w_scale,
    const float *bias,
    float *y);

#ifdef __cplusplus
}
#endif

#endif /* EK_DYNAMIC_FULLY_CONNECTED_S8_H */
