/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What every kernel on float needs to give the same bits everywhere: plain IEEE arithmetic. What a
 * compiler tells of its settings is checked here; contraction into fused multiply-adds, which it
 * does not tell, must be off as well (-ffp-contract=off).
 */
#ifndef EK_IEEE_H
#define EK_IEEE_H

#include "ek_common.h"

#if defined(__FAST_MATH__)
#error "edgekit's float kernels need IEEE arithmetic: build without -ffast-math"
#endif
/* 16 concerns only half precision. */
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "edgekit's float kernels need float arithmetic in float: on x86 build with -mfpmath=sse"
#endif

/* x < low ? low : (x > high ? high : x): NaN and -0 pass through. */
static inline float ek_clamp_f32(float x, float low, float high)
{
    return x < low ? low : (x > high ? high : x);
}

#endif /* EK_IEEE_H */
