"""Readers: original formats from small synthetic files, prepared formats from real data."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import DATASETS, load
from edgekit.data.files import read_npz
from edgekit.data.readers.wisdm import aligned
from edgekit.data.windows import resampled, sliding_windows
from edgekit.errors import EdgekitError, InvalidDataError, UsageError

SUBJECTS = range(1600, 1605)


def sensor_lines(subject: int, code: str, rate: float, values: np.ndarray) -> str:
    """Lines of a raw WISDM file, from a time of the watch's own."""
    times = 90_426_708_196_641 + np.round(np.arange(len(values)) * 1e9 / rate).astype(np.int64)
    return "".join(
        f"{subject},{code},{t},{x:.6f},{y:.6f},{z:.6f};\n"
        for t, (x, y, z) in zip(times, values, strict=True)
    )


def wisdm_folder(root: Path, rates: dict[int, float] | None = None, rows: int = 95) -> Path:
    """A raw distribution: five people, two activities of the hand and one that is not."""
    rng = np.random.default_rng(0)
    for subject in SUBJECTS:
        rate = (rates or {}).get(subject, 20.0)
        for sensor in ("accel", "gyro"):
            folder = root / "wisdm-dataset" / "raw" / "watch" / sensor
            folder.mkdir(parents=True, exist_ok=True)
            text = "".join(
                sensor_lines(subject, code, rate, rng.normal(size=(rows, 3))) for code in "APG"
            )
            (folder / f"data_{subject}_{sensor}_watch.txt").write_text(text)
    return root


def test_wisdm_raw(tmp_path: Path) -> None:
    """Two whole windows of each recording; subjects apart; rates that are refused are counted."""
    wisdm_folder(tmp_path, {1601: 23.0, 1602: 24.81})
    data = load("wisdm-watch", path=tmp_path)
    assert data.x.shape[1:] == (6, 40)
    assert data.x.dtype == np.float32 and data.y.dtype == np.int64
    assert data.groups is not None
    counts = {s: int((data.groups == s).sum()) for s in SUBJECTS}
    # 95 rows at 24.81 Hz last 3.79 s: 76 samples at 20 Hz, one window.
    assert counts == {1600: 4, 1601: 0, 1602: 2, 1603: 4, 1604: 4}
    assert set(data.groups[data.test]) == {1604}
    assert set(data.groups[data.validation]) == {1603}
    assert {data.classes[label] for label in data.y} == {"dribbling", "teeth"}
    assert "2 recordings dropped: neither 20 nor 24.81 Hz" in data.provenance
    assert "2 recordings interpolated" in data.provenance


def test_wisdm_raw_keeps_every_sample_in_its_place(tmp_path: Path) -> None:
    wisdm_folder(tmp_path)
    first = tmp_path / "wisdm-dataset" / "raw" / "watch" / "gyro" / "data_1600_gyro_watch.txt"
    lines = [line for line in first.read_text().splitlines() if ",P," in line]
    data = load("wisdm-watch", path=tmp_path)
    window = data.x[0]
    assert data.classes[data.y[0]] == "dribbling"
    want = np.array([[float(v) for v in line.rstrip(";").split(",")[3:]] for line in lines[:40]])
    np.testing.assert_array_equal(window[3:].T, want.astype(np.float32))


def test_wisdm_lines_out_of_order_are_sorted(tmp_path: Path) -> None:
    wisdm_folder(tmp_path)
    before = load("wisdm-watch", path=tmp_path)
    for path in tmp_path.rglob("*_watch.txt"):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    after = load("wisdm-watch", path=tmp_path)
    np.testing.assert_array_equal(before.x, after.x)
    assert before.sha256 != after.sha256


@pytest.mark.parametrize(
    "line", ["1600,P,1,2,3", "1600,P,x,1,2,3;", "1600,P,1,nan,2,3;", "1600,P,1,1e999,2,3;", "\xff"]
)
def test_wisdm_damaged_lines(tmp_path: Path, line: str) -> None:
    wisdm_folder(tmp_path)
    path = next(tmp_path.rglob("data_1602_accel_watch.txt"))
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    with pytest.raises(InvalidDataError, match="data_1602_accel_watch"):
        load("wisdm-watch", path=tmp_path)


def test_alignment_is_by_first_samples() -> None:
    """Clocks apart by hours do not matter; the shorter sensor ends the recording."""
    seconds = np.arange(50) / 20
    joined = aligned((seconds, np.ones((50, 3))), (seconds[:45] + 9000, np.zeros((45, 3))))
    assert joined is not None
    recording, interpolated = joined
    assert recording.shape == (45, 6) and not interpolated
    assert aligned((seconds, np.ones((50, 3))), (seconds * 2, np.ones((50, 3)))) is None


def test_resampling_is_linear() -> None:
    seconds = np.arange(100) / 24.81
    done = resampled(seconds, np.stack([3 * seconds + 1], axis=1), rate=20.0)
    np.testing.assert_allclose(done[:, 0], 3 * np.arange(len(done)) / 20 + 1, rtol=1e-12)
    assert len(done) == int(seconds[-1] * 20) + 1


def test_windows_of_recordings_are_those_of_the_prepared_file(data_folder: Path) -> None:
    """Cutting whole recordings of real data gives the prepared windows, to the last integer."""
    with np.load(data_folder / "har" / "wisdm_watch_20hz_seq.npz") as recordings:
        x, offsets = recordings["X"], recordings["offsets"]
        codes = recordings["class_codes"][recordings["y"]]
    with np.load(data_folder / "har" / "wisdm_watch7_w40.npz") as prepared:
        wanted, hand = prepared["X"], set(prepared["class_codes"])
    cut = [
        sliding_windows(x[begin:end], length=40, stride=40)
        for begin, end, code in zip(offsets[:-1], offsets[1:], codes, strict=True)
        if code in hand
    ]
    np.testing.assert_array_equal(np.concatenate(cut), wanted)


def test_wisdm_prepared(data_folder: Path) -> None:
    """Real windows: physical units, people on one side each; a random split is marked."""
    path = data_folder / "har" / "wisdm_watch7_w40.npz"
    data = load("wisdm-watch", path=path)
    assert data.x.shape == (30880, 6, 40)
    assert (len(data.train), len(data.validation), len(data.test)) == (19031, 6102, 5747)
    assert data.groups is not None
    sides = [set(data.groups[part]) for part in (data.train, data.validation, data.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert [len(side) for side in sides] == [31, 10, 10]
    assert all(s % 5 == 3 for s in sides[1]) and all(s % 5 == 4 for s in sides[2])
    assert data.caveat == ""
    # Gravity is in it.
    assert 5 < np.sqrt((data.x[:, :3].mean(axis=2) ** 2).sum(axis=1)).mean() < 12
    drawn = load("wisdm-watch", path=path, split="random")
    assert drawn.groups is not None
    assert set(drawn.groups[drawn.train]) & set(drawn.groups[drawn.test])
    assert "one person" in drawn.caveat
    assert data.sha256 == drawn.sha256


def test_hapt_prepared(data_folder: Path) -> None:
    data = load("hapt", path=data_folder / "har" / "hapt_windows.npz")
    assert (len(data.train) + len(data.validation), len(data.test)) == (7767, 3162)
    with np.load(data_folder / "har" / "hapt_windows.npz") as stored:
        np.testing.assert_array_equal(data.test, np.flatnonzero(stored["split"] == 2))
    assert data.groups is not None
    assert not set(data.groups[data.train]) & set(data.groups[data.validation])


def hapt_folder(root: Path) -> Path:
    """A raw distribution of three people; every sample holds its own number."""
    raw = root / "HAPT Data Set" / "RawData"
    raw.mkdir(parents=True)
    lines = []
    for experiment, user in ((1, 1), (2, 2), (3, 5)):
        time = np.arange(1, 701)[:, None]
        for sensor, offset in (("acc", 0), ("gyro", 10_000)):
            np.savetxt(
                raw / f"{sensor}_exp{experiment:02d}_user{user:02d}.txt",
                np.repeat(time + offset, 3, axis=1),
            )
        lines += [f"{experiment} {user} 5 11 266", f"{experiment} {user} 7 300 426"]
    (raw / "labels.txt").write_text("\n".join(lines) + "\n")
    return root


def test_hapt_raw(tmp_path: Path) -> None:
    """256 samples are three windows; 127 are none; numbers count from 1."""
    data = load("hapt", path=hapt_folder(tmp_path))
    assert data.x.shape == (9, 6, 128)
    assert data.x[:3, 0, 0].tolist() == [11, 75, 139]
    assert data.x[2, 3, -1] == 10_266
    assert {data.classes[label] for label in data.y} == {"STANDING"}
    assert data.test.tolist() == [3, 4, 5]
    assert data.validation.tolist() == [6, 7, 8]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("1 1 5 11 701", "not in its 700 samples"),
        ("1 1 13 1 200", "activity 13"),
        ("1 1 5 0 200", "from 0"),
        ("1 1 5 1", "must have 5 columns"),
        ("9 9 5 1 200", "acc_exp09_user09.txt: cannot be read"),
        ("1 1 5 1 1e999", "NaN or infinity"),
        ("", "whole numbers"),
    ],
)
def test_hapt_damaged(tmp_path: Path, labels: str, message: str) -> None:
    hapt_folder(tmp_path)
    next(tmp_path.rglob("labels.txt")).write_text(labels)
    with pytest.raises(InvalidDataError, match=message):
        load("hapt", path=tmp_path)


def idx(array: np.ndarray) -> bytes:
    """An IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def mnist_folder(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 48), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (root / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (root / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return root


def test_mnist_idx(tmp_path: Path) -> None:
    data = load("mnist", path=mnist_folder(tmp_path))
    assert data.x.shape == (58, 1, 28, 28)
    assert (len(data.train), len(data.validation), len(data.test)) == (44, 4, 10)
    assert data.test.tolist() == list(range(48, 58))
    raw = gzip.decompress((tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    np.testing.assert_array_equal(
        data.x[data.test].astype(np.uint8).ravel(), np.frombuffer(raw, np.uint8)
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-5],
        lambda data: gzip.compress(gzip.decompress(data)[:-1]),
        lambda data: gzip.compress(gzip.decompress(data) + b"\0"),
        lambda data: gzip.compress(b"\0\0\x0d" + gzip.decompress(data)[3:]),
        lambda data: gzip.compress(b"\0\0"),
        lambda _: b"no gzip",
    ],
)
def test_mnist_damaged(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = mnist_folder(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidDataError, match="train-images"):
        load("mnist", path=tmp_path)


def test_mnist_prepared(data_folder: Path) -> None:
    data = load("mnist", path=data_folder / "images" / "mnist.npz")
    assert (len(data.train), len(data.validation), len(data.test)) == (55000, 5000, 10000)
    assert data.y[data.test][:5].tolist() == [7, 2, 1, 0, 4]


def cifar_files(root: Path) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    for name in names:
        rows = rng.integers(0, 256, (4, 3073), np.uint8)
        rows[:, 0] %= 10
        (folder / name).write_bytes(rows.tobytes())
    return folder


def test_cifar10_archive_and_folder_read_alike(tmp_path: Path) -> None:
    folder = cifar_files(tmp_path)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        out.add(folder, folder.name)
    one, two = load("cifar10", path=folder), load("cifar10", path=archive)
    np.testing.assert_array_equal(one.x, two.x)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(archive, alone)
    assert load("cifar10", path=alone).sha256 == two.sha256 != one.sha256
    assert one.x.shape == (24, 3, 32, 32)
    assert one.test.tolist() == [20, 21, 22, 23]
    (folder / "data_batch_3.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(InvalidDataError, match="records of 3073 bytes"):
        load("cifar10", path=folder)


def test_keywords(data_folder: Path) -> None:
    """Real features: a scale and zero point mean what they say; speakers stay on one side."""
    path = data_folder / "kws" / "gsc_test_mfcc.npz"
    data = load("speech-commands-mfcc", path=path)
    with np.load(path) as stored:
        real = float(stored["scale"]) * (stored["X"][7].astype(float) - int(stored["zero_point"]))
    np.testing.assert_allclose(data.x[7, 0], real, rtol=1e-6)
    assert data.groups is not None
    assert not set(data.groups[data.train]) & set(data.groups[data.test])
    assert not set(data.groups[data.train]) & set(data.groups[data.validation])


@pytest.mark.needs("sklearn")
def test_digits() -> None:
    data = load("digits")
    assert data.x.shape == (1797, 1, 8, 8)
    parts = np.concatenate([data.train, data.validation, data.test])
    assert sorted(parts.tolist()) == list(range(1797))
    with pytest.raises(UsageError, match="read from no path"):
        load("digits", path=".")


HARMLESS = {
    "X": np.zeros((5, 40, 6), np.int16),
    "scale": np.ones(6, np.float32),
    "y": np.zeros(5, np.int8),
    "class_names": np.array(["a", "b"]),
    "subject": np.arange(5),
    "split": np.array([0, 0, 0, 1, 2], np.int8),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((5, 40, 6))}, "must be int16"),
        ({"X": np.zeros((5, 41, 6), np.int16)}, "must be int16"),
        ({"scale": np.zeros(6)}, "6 positive numbers"),
        ({"scale": np.full(6, np.nan)}, "6 positive numbers"),
        ({"y": np.full(5, 2)}, "labels from 2 to 2"),
        ({"y": np.zeros(4, int)}, "must be integers"),
        ({"split": np.full(5, 3)}, "0 train, 1 validation, 2 test"),
        ({"split": np.zeros(5, int)}, "leaves nothing"),
        ({"subject": np.zeros(5)}, "subject must be integers"),
        ({"class_names": np.array([object()])}, "pickled objects"),
        ({"class_names": np.array("a")}, r"class_names are <U1\[\], must be text"),
        ({"class_names": np.arange(2)}, r"class_names are int64\[2\], must be text"),
        ({"class_names": np.array([], str)}, r"class_names are <U1\[0\], must be text"),
        ({"scale": np.array(list("abcdef"))}, "6 positive numbers"),
        ({"scale": np.full(6, 1e300)}, "6 positive numbers"),
        ({"scale": np.float32(1)}, "6 positive numbers"),
        ({"scale": np.full(6, 3e38), "X": np.full((5, 40, 6), 9, np.int16)}, "more than float32"),
    ],
)
def test_prepared_windows_damaged(
    tmp_path: Path, change: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "windows.npz"
    np.savez(path, **(HARMLESS | change))
    with pytest.raises(InvalidDataError, match=message):
        load("wisdm-watch", path=path)


FEATURES = {
    "X": np.zeros((5, 49, 10), np.int8),
    "scale": np.array(0.5),
    "zero_point": np.array(3),
    "y": np.zeros(5, np.int8),
    "class_names": np.array(["a", "b"]),
    "speaker": np.arange(5),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": np.array("abc")}, "1 positive numbers"),
        ({"scale": np.array(np.nan)}, "1 positive numbers"),
        ({"scale": np.ones(1)}, "1 positive numbers"),
        ({"zero_point": np.array("abc")}, "zero_point must be an integer"),
        ({"zero_point": np.array(0.5)}, "zero_point must be an integer"),
        ({"zero_point": np.array(-129)}, "zero_point must be an integer"),
        ({"class_names": np.array("a")}, r"class_names are <U1\[\], must be text"),
        ({"scale": np.array(3e38)}, "holds NaN or infinity"),
    ],
)
def test_keywords_damaged(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "features.npz"
    np.savez(path, **FEATURES)
    assert load("speech-commands-mfcc", path=path, split="random").x[0, 0, 0, 0] == -1.5
    np.savez(path, **(FEATURES | change))
    with pytest.raises(InvalidDataError, match=message):
        load("speech-commands-mfcc", path=path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_is_a_typed_error(tmp_path: Path, method: int) -> None:
    """A member by any method that zip knows; a flipped bit that nobody looks at does no harm."""
    values = np.random.default_rng(0).normal(size=(20, 4))
    stored = io.BytesIO()
    np.save(stored, values)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", stored.getvalue())
    whole = path.read_bytes()
    refused = 0
    for place in range(35, 400, 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            assert np.array_equal(read_npz(path, ["x"])["x"], values)
        except InvalidDataError:
            refused += 1
    assert refused > 65


def test_a_split_that_a_file_lacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "windows.npz", **HARMLESS)
    assert len(load("wisdm-watch", path=tmp_path)) == 5
    with pytest.raises(UsageError, match="has no split 'random', only subject"):
        load("wisdm-watch", path=tmp_path, split="random")
    with pytest.raises(UsageError, match="it has: subject, random"):
        load("wisdm-watch", path=tmp_path, split="weekday")


@pytest.mark.parametrize("name", sorted(n for n, e in DATASETS.items() if e.needs_path))
def test_anything_else_is_a_typed_error(tmp_path: Path, name: str) -> None:
    """Nothing, an empty folder, a text, a cut array file, an archive of nothing."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "cut.npz", **HARMLESS)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:300])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as out:
        out.writestr("readme.txt", "hello")
    (tmp_path / "bad.tar.gz").write_bytes(b"\x1f\x8b no")
    for path in ("absent", "empty", "text.npz", "cut.npz", "other.zip", "bad.tar.gz"):
        with pytest.raises(InvalidDataError):
            load(name, path=tmp_path / path)


def test_raw_archive_within_an_archive(tmp_path: Path) -> None:
    """WISDM is published as a zip file in a zip file."""
    raw = wisdm_folder(tmp_path / "raw")
    inner, outer = tmp_path / "wisdm-dataset.zip", tmp_path / "published.zip"
    with zipfile.ZipFile(inner, "w") as out:
        for path in sorted(raw.rglob("*.txt")):
            out.write(path, path.relative_to(raw))
    with zipfile.ZipFile(outer, "w") as out:
        out.write(inner, inner.name)
    data = load("wisdm-watch", path=outer)
    np.testing.assert_array_equal(data.x, load("wisdm-watch", path=raw).x)


def test_reading_needs_no_heavy_package() -> None:
    """Neither torch nor scikit-learn, until digits are asked for."""
    program = (
        "import sys, edgekit.data, edgekit.cli.train, edgekit.zoo; "
        "print({'torch', 'sklearn', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(EdgekitError, match="did you mean wisdm-watch"):
        load("wisdm-wach")
