"""The LMU on real numbers, against its authors' implementation, step by step and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

Array = NDArray[Any]

GOLDEN = Path(__file__).parent / "golden" / "keras_lmu.npz"
"""Of KerasLMU, by the authors of the paper; ``make_keras_lmu.py`` beside it wrote it."""


def random_lmu(seed: int = 0, **options: Any) -> Any:
    """An LMU in eval mode all of whose weights are drawn, those that start at 0 too."""
    import torch

    from edgekit.spiking.layers.lmu import LMU

    torch.manual_seed(seed)
    model = LMU(**({"hidden": 20, "memories": 2, "order": 6, "theta": 12.0} | options))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(0, 0.3)
    return model.eval()


@pytest.mark.parametrize("method", ["zoh", "euler"])
def test_equals_the_authors_implementation(method: Any) -> None:
    """Every hidden value of 30 steps, with all connections: u reads h and m of before, h the new m.

    KerasLMU keeps memories one after the other, as we do; its hidden cell reads m before x.
    """
    import torch

    from edgekit.spiking.layers.lmu import LMUCell

    with np.load(GOLDEN) as stored:
        golden = dict(stored)
    assert str(golden["keras_lmu_version"]) == "0.9.0"
    theta = float(golden["theta" if method == "zoh" else "theta_euler"])
    batch, _, inputs = golden["x"].shape
    memories = golden["kernel"].shape[1]
    size, hidden = golden["recurrent_kernel"].shape[0], golden["hidden_bias"].shape[0]
    cell = LMUCell(
        inputs,
        hidden,
        memories=memories,
        order=size // memories,
        theta=theta,
        discretization=method,
    )
    from_memory, from_x = np.split(golden["hidden_kernel"], [size])
    into_u_x, into_u_h = np.split(golden["kernel"], [inputs])
    kernels = {
        "u_x": into_u_x,
        "u_h": into_u_h,
        "u_m": golden["recurrent_kernel"],
        "h_x": from_x,
        "h_h": golden["hidden_recurrent_kernel"],
        "h_m": from_memory,
    }
    with torch.no_grad():
        for name, kernel in kernels.items():
            getattr(cell, name).weight.copy_(torch.from_numpy(kernel.T))
        cell.h_x.bias.copy_(torch.from_numpy(golden["hidden_bias"]))
        h, m = torch.zeros(batch, hidden), torch.zeros(batch, size)
        found = []
        for x in torch.from_numpy(golden["x"]).unbind(1):
            h, m = cell(x, h, m)
            found.append(h.numpy())
    wanted = golden[f"h_{method}"]
    assert np.abs(wanted).mean() > 0.3
    np.testing.assert_allclose(np.stack(found, 1), wanted, rtol=0, atol=5e-6)


def test_the_memory_of_a_cell_is_linear_and_fixed() -> None:
    """Driven by x alone, m is the discrete system's answer; nothing trains it."""
    import torch

    from edgekit.spiking.layers.legendre import discrete
    from edgekit.spiking.layers.lmu import LMUCell

    cell = LMUCell(2, 3, memories=2, order=4, theta=7.5)
    assert not cell.memory.weight.requires_grad
    with torch.no_grad():
        cell.u_x.weight.copy_(torch.eye(2))
        cell.u_h.weight.zero_()
    a, b = discrete(4, 7.5)
    rng = np.random.default_rng(1)
    h, m, wanted = torch.zeros(1, 3), torch.zeros(1, 8), np.zeros((2, 4))
    for sample in rng.normal(0, 1, (25, 2)):
        with torch.no_grad():
            h, m = cell(torch.tensor(sample[None], dtype=torch.float32), h, m)
        wanted = wanted @ a.T + sample[:, None] * b
        np.testing.assert_allclose(m.numpy().reshape(2, 4), wanted, rtol=0, atol=2e-6)


def test_initial_weights_are_the_papers() -> None:
    """e_x and e_h LeCun-uniform, e_m 0, W Xavier-normal, b 0."""
    import torch

    from edgekit.spiking.layers.lmu import LMUCell

    torch.manual_seed(0)
    cell = LMUCell(50, 200, memories=20, order=5, theta=10.0)
    for layer in (cell.u_x, cell.u_h):
        assert float(layer.weight.abs().max()) <= np.sqrt(3 / layer.in_features)
        assert float(layer.weight.std()) == pytest.approx(np.sqrt(1 / layer.in_features), rel=0.05)
    assert not cell.u_m.weight.any()
    for layer in (cell.h_x, cell.h_h, cell.h_m):
        deviation = np.sqrt(2 / (layer.in_features + 200))
        assert float(layer.weight.std()) == pytest.approx(deviation, rel=0.05)
    assert not cell.h_x.bias.any()


def test_steps_give_what_a_window_gives() -> None:
    """The module that a device runs, sample by sample, and the state that it hands on."""
    import torch

    model = random_lmu(channels=3, classes=4)
    x = torch.randn(5, 3, 17)
    with torch.no_grad():
        h, m = model.zeros(5)
        for sample in x.unbind(2):
            scores, h, m = model.step(sample, h, m)
        assert torch.equal(model(x), scores)
        changed = torch.cat([x[:, :, :1] + 1, x[:, :, 1:]], 2)
        assert (model(changed) - scores).abs().max() > 1e-3  # the first sample is remembered


@pytest.mark.parametrize("shape", [(2, 40, 6), (6, 40), (1, 5, 40), (1, 1, 6, 40)])
def test_windows_of_another_shape(shape: tuple[int, ...]) -> None:
    import torch

    from edgekit.errors import InvalidDataError
    from edgekit.spiking.layers.lmu import LMU

    with pytest.raises(InvalidDataError, match=r"must be \[batch, 6, steps\]"):
        LMU(hidden=4, memories=1, order=2, theta=5.0)(torch.zeros(shape))


def test_zero_steps_are_refused() -> None:
    import torch

    from edgekit.errors import InvalidDataError

    with pytest.raises(InvalidDataError, match=r"\[2, 6, 0\]"):
        random_lmu()(torch.zeros(2, 6, 0))


@pytest.mark.needs("onnxruntime")
def test_the_step_is_exported_with_state() -> None:
    """As a Model in ONNX Runtime, and as a float32 Program that keeps h and m itself."""
    import onnxruntime
    import torch

    from edgekit.model.capture import capture
    from edgekit.program.interpret import Interpreter
    from edgekit.program.lowering import lower

    model = random_lmu()
    x = torch.randn(3, 6, 40)
    example = (torch.zeros(1, 6), *model.zeros(1))
    captured = capture(model.step, example)
    program = lower(captured, state={"h": "output_1", "m": "output_2"})
    assert [(s.read, s.write, s.initial) for s in program.state] == [
        ("h", "output_1", 0),
        ("m", "output_2", 0),
    ]
    interpreter = Interpreter(program)
    session = onnxruntime.InferenceSession(captured.to_bytes())
    with torch.no_grad():
        wanted = [model(x[:, :, : t + 1]).numpy() for t in range(40)]
    for row, window in enumerate(x.numpy()):
        interpreter.reset()
        h, m = (state.numpy() for state in example[1:])
        for t, sample in enumerate(window.T[:, None]):
            (given,) = interpreter.step({"x": sample}).values()
            scores, h, m = session.run(None, {"x": sample, "h": h, "m": m})
            np.testing.assert_allclose(given[0], wanted[t][row], rtol=0, atol=1e-5)
            np.testing.assert_allclose(scores[0], wanted[t][row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["w8", "shift3"])
def test_quantised_steps_convert(precision: str) -> None:
    """The step that was prepared becomes an integer Program whose state is integer too."""
    import torch

    from edgekit.program.interpret import Interpreter
    from edgekit.program.lowering import lower
    from edgekit.quantize import convert
    from edgekit.zoo.quantized import quantized
    from tests.support.quantized import program_feeds

    model = random_lmu()
    x = torch.randn(60, 6, 20)
    with torch.no_grad():
        float_scores = model(x)
        trained = quantized(model, precision, x).eval()
        fake = trained(x)
    limit = {"w8": 0.08, "shift3": 0.5}[precision]
    spread = float(float_scores.std())
    assert float((fake - float_scores).abs().mean()) < limit * spread
    converted = convert(trained.step)
    program = lower(converted.model, state={"h": "output_1", "m": "output_2"})
    assert {str(program.tensors[s.read].dtype) for s in program.state} <= {"int8", "int16"}
    interpreter = Interpreter(program)
    (output,) = program.outputs
    q = program.tensors[output.tensor].quantization
    errors = []
    for window, scores in zip(x[:8].numpy(), fake[:8].numpy(), strict=True):
        interpreter.reset()
        for sample in window.T[:, None]:
            given = interpreter.step(program_feeds(program, {"x": sample}))
        (value,) = given.values()
        real = value if q is None else (value - np.float64(q.zero_point[0])) * q.scale[0]
        errors.append(np.abs(real[0] - scores))
    assert np.mean(errors) < 0.06 * spread
    assert np.max(errors) < 0.2 * spread
