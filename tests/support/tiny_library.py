"""A hand-written Library, small enough to check by eye: what emission yields, without emission.

Three layers over the inputs ``a``, ``b`` (int8[16]) and ``x`` (float32[16]):

- ``sum[i] = clamp(a[i] + b[i] + w[i])``: int8, constants in the weight section;
- ``y[i] = x[i] * v[i] + x[i] / 3``: float32, two roundings and one division;
- ``z[i] = (a[i] * m + rounding) >> 31``: int32 through a 64-bit product, and a remainder by a
  variable divisor; plus the state, which counts the calls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.targets.library import Layer, Library, Port

N = 16
W = np.arange(-8, 8, dtype=np.int8)
V = np.float32([1, -1, 0.1, 3, 1e-38, 1e20, -7.25, 0.3333, 2, 5, 1e-20, 9, 11, -0.5, 1.5, 7])
M = 1_518_500_250

HEADER = """
#ifndef TINY_H
#define TINY_H
#include <stdint.h>
#define TINY_ARENA_BYTES 272
#define TINY_STATE_BYTES 4
#define TINY_INPUT_0_OFFSET 0
#define TINY_INPUT_0_BYTES 16
#define TINY_INPUT_1_OFFSET 16
#define TINY_INPUT_1_BYTES 16
#define TINY_INPUT_2_OFFSET 32
#define TINY_INPUT_2_BYTES 64
#define TINY_OUTPUT_0_OFFSET 96
#define TINY_OUTPUT_0_BYTES 16
#define TINY_OUTPUT_1_OFFSET 112
#define TINY_OUTPUT_1_BYTES 64
#define TINY_OUTPUT_2_OFFSET 176
#define TINY_OUTPUT_2_BYTES 64
typedef struct tiny_context { uint8_t *arena; int32_t *state; } tiny_context;
int tiny_init(tiny_context *ctx, void *arena, void *state, const void *weights);
void tiny_carry(const tiny_context *ctx);
int tiny_run(tiny_context *ctx);
int tiny_step(tiny_context *ctx);
void tiny_reset(tiny_context *ctx);
void tiny_layer_0(const tiny_context *ctx);
void tiny_layer_1(const tiny_context *ctx);
void tiny_layer_2(const tiny_context *ctx);
#endif
"""

SOURCE = """
#include "tiny.h"
#include <string.h>
#define N 16
extern const int8_t tiny_w[N];
extern const float tiny_v[N];
int tiny_init(tiny_context *ctx, void *arena, void *state, const void *weights)
{
    ctx->arena = arena;
    ctx->state = state;
    tiny_reset(ctx);
    return weights == 0 ? 0 : -1;
}
void tiny_carry(const tiny_context *ctx) { (void)ctx; }
void tiny_reset(tiny_context *ctx) { memset(ctx->state, 0, TINY_STATE_BYTES); }
void tiny_layer_0(const tiny_context *ctx)
{
    const int8_t *a = (const int8_t *)ctx->arena, *b = a + N;
    int8_t *y = (int8_t *)ctx->arena + TINY_OUTPUT_0_OFFSET;
    for (int i = 0; i < N; i++) {
        const int32_t s = a[i] + b[i] + tiny_w[i];
        y[i] = (int8_t)(s < -128 ? -128 : (s > 127 ? 127 : s));
    }
}
void tiny_layer_1(const tiny_context *ctx)
{
    const float *x = (const float *)(const void *)(ctx->arena + TINY_INPUT_2_OFFSET);
    float *y = (float *)(void *)(ctx->arena + TINY_OUTPUT_1_OFFSET);
    for (int i = 0; i < N; i++) {
        y[i] = x[i] * tiny_v[i] + x[i] / 3.0f;
    }
}
void tiny_layer_2(const tiny_context *ctx)
{
    const int8_t *a = (const int8_t *)ctx->arena, *b = a + N;
    int32_t *z = (int32_t *)(void *)(ctx->arena + TINY_OUTPUT_2_OFFSET);
    for (int i = 0; i < N; i++) {
        const int64_t product = (int64_t)(a[i] * 65536) * 1518500250 + ((int64_t)1 << 30);
        z[i] = (int32_t)(product >> 31) + 1000 % (b[i] | 1) + *ctx->state;
    }
    ++*ctx->state;
}
int tiny_step(tiny_context *ctx)
{
    tiny_layer_0(ctx);
    tiny_layer_1(ctx);
    tiny_layer_2(ctx);
    return 0;
}
int tiny_run(tiny_context *ctx)
{
    tiny_reset(ctx);
    return tiny_step(ctx);
}
"""


def _array(c_type: str, name: str, values: list[str]) -> str:
    section = '__attribute__((section(".ek_weights"), aligned(8)))'
    declaration = f"const {c_type} {name}[{len(values)}]"
    return f"extern {declaration};\n{section} {declaration} = {{{', '.join(values)}}};\n"


def tiny_library(arena_bytes: int = 272) -> Library:
    """The library; a larger `arena_bytes` makes it fit fewer boards."""
    weights = (
        '#include "tiny.h"\n'
        + _array("int8_t", "tiny_w", [str(w) for w in W])
        + _array("float", "tiny_v", [f"{float(v).hex()}f" for v in V])
    )
    header = HEADER.replace("ARENA_BYTES 272", f"ARENA_BYTES {arena_bytes}")
    ports = [("a", 16), ("b", 16), ("x", 64), ("sum", 16), ("y", 64), ("z", 64)]
    offsets = np.cumsum([0, *(size for _, size in ports)])
    placed = [Port(n, n, s, int(o)) for (n, s), o in zip(ports, offsets[:-1], strict=True)]
    return Library(
        name="tiny",
        prefix="tiny_",
        files={"tiny.h": header, "tiny.c": SOURCE, "tiny_weights.c": weights},
        arena_bytes=arena_bytes,
        arena_alignment=16,
        state_bytes=4,
        weights_bytes=80,
        inputs=tuple(placed[:3]),
        outputs=tuple(placed[3:]),
        layers=tuple(
            Layer(f"tiny_layer_{i}", name, name) for i, name in enumerate(("sum", "scale", "fixed"))
        ),
    )


def tiny_inputs(seed: int) -> list[bytes]:
    """Random bytes of the three inputs; ``x`` holds subnormal and large numbers too."""
    rng = np.random.default_rng(seed)
    exponents = rng.integers(-149, 120, N)
    x = np.float32(rng.standard_normal(N)) * np.exp2(exponents).astype(np.float32)
    return [
        rng.integers(-128, 128, N, dtype=np.int8).tobytes(),
        rng.integers(-128, 128, N, dtype=np.int8).tobytes(),
        x.astype("<f4").tobytes(),
    ]


def tiny_reference(inputs: list[bytes], steps_before: int = 0) -> list[bytes]:
    """What the library must yield, to the bit."""
    a, b = (np.frombuffer(data, np.int8).astype(np.int64) for data in inputs[:2])
    x: NDArray[np.float32] = np.frombuffer(inputs[2], "<f4")
    with np.errstate(over="ignore", under="ignore"):
        y = x * V + x / np.float32(3)
    z = ((a * 65536 * M + (1 << 30)) >> 31) + np.fmod(1000, b | 1) + steps_before
    return [
        np.clip(a + b + W, -128, 127).astype(np.int8).tobytes(),
        y.astype("<f4").tobytes(),
        z.astype("<i4").tobytes(),
    ]
