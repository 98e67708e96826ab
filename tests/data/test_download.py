"""Fetching from a server in this process, and archives that mean harm."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import DATASETS, cache_folder, load
from edgekit.data import dataset as table
from edgekit.data.archive import unpack
from edgekit.data.download import fetch
from edgekit.errors import DownloadError, EdgekitError, InvalidDataError, OutputError, UsageError
from tests.data.test_readers import HARMLESS

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does, and what it was asked.

    Attributes:
        url: of its root.
        files: content by path.
        send: most bytes of a body that are sent, though more are announced.
        ranges: whether it can continue.
        asked: the Range header of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/file": CONTENT})
    send: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server: Server, *arguments: Any) -> None:
        self.plan = server
        super().__init__(*arguments)

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.plan.asked.append(asked)
        body = self.plan.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if not self.plan.ranges:
            start = 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        rest = body[start:]
        self.wfile.write(rest if self.plan.send is None else rest[: self.plan.send])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    plan = Server()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Handler, plan)
    ) as running:
        plan.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield plan
        running.shutdown()
        thread.join()


def get(server: Server, path: Path, sha256: str = SHA256, limit: int = 1 << 20) -> None:
    fetch(f"{server.url}/file", path, sha256=sha256, limit_bytes=limit)


def test_a_file_arrives(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    fetch(
        f"{server.url}/file",
        tmp_path / "new" / "file",
        sha256=SHA256.upper(),
        limit_bytes=len(CONTENT),
        progress=lambda *news: told.append(news),
    )
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert told[-1] == ("file", len(CONTENT), len(CONTENT))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"sha256 is {SHA256}, must be {'0' * 64}"):
        get(server, tmp_path / "file", "0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_continued_or_begun_again(
    server: Server, tmp_path: Path, ranges: bool
) -> None:
    server.send, server.ranges = 1000, ranges
    with pytest.raises(DownloadError, match="connection broke"):
        get(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert (tmp_path / "file.part").stat().st_size == 1000
    server.send = None
    get(server, tmp_path / "file")
    assert server.asked == [None, "bytes=1000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_was_whole_is_finished(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"\xff" * 500)
    with pytest.raises(DownloadError, match="it was deleted"):
        get(server, tmp_path / "file")
    get(server, tmp_path / "file")


def test_http_errors_and_no_network(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="answers 404"):
        fetch(f"{server.url}/other", tmp_path / "f", sha256=SHA256, limit_bytes=1000)
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch("http://127.0.0.1:1/f", tmp_path / "f", sha256=SHA256, limit_bytes=1000)
    for url in ("file:///etc/passwd", "ftp://example.org/f", "/etc/passwd"):
        with pytest.raises(UsageError, match="must be http or https"):
            fetch(url, tmp_path / "f", sha256=SHA256, limit_bytes=1000)
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        fetch(f"{server.url}/file", tmp_path / "f", sha256="abc", limit_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_too_large_is_refused_before_it_is_written(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="more than 1,000"):
        get(server, tmp_path / "file", limit=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_or_a_file_in_the_way(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        get(server, tmp_path / "file" / "inner")
    full = Path("/dev/full")
    if full.exists():
        (tmp_path / "data.part").symlink_to(full)
        with pytest.raises(OutputError, match="the disk is full"):
            get(server, tmp_path / "data")


@pytest.fixture
def published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A data set that the server publishes: an archive with a prepared file of windows."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    stream = io.BytesIO()
    np.savez(stream, **HARMLESS)  # type: ignore[arg-type]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("windows.npz", stream.getvalue())
    server.files["/wisdm.zip"] = archive.getvalue()
    read = DATASETS["wisdm-watch"].read
    file = table.RemoteFile(
        "wisdm.zip",
        f"{server.url}/wisdm.zip",
        None,
        limit_bytes=1 << 20,
        archive=True,
    )

    def inner(path: Path | None) -> tuple[table.Samples, str]:
        assert path is not None
        return read(path / "wisdm")

    entry = table.Entry(
        name="published",
        description="windows",
        source="a test",
        license="none",
        splits=("subject",),
        formats="a .zip",
        read=inner,
        files=(file,),
        wanted=("*.npz",),
    )
    monkeypatch.setitem(DATASETS, "published", entry)
    return server


def test_download_into_the_cache(published: Server, tmp_path: Path) -> None:
    """Refused without a checksum; with one fetched once, unpacked, and read from then on."""
    with pytest.raises(InvalidDataError, match="no data in .* get it from http"):
        load("published")
    with pytest.raises(DownloadError, match="no checksum"):
        load("published", download=True)
    assert published.asked == []
    sha256 = hashlib.sha256(published.files["/wisdm.zip"]).hexdigest()
    data = load("published", download=True, sha256=sha256)
    assert len(data) == 5
    assert cache_folder() == tmp_path / "cache"
    assert [p.name for p in (tmp_path / "cache" / "published").iterdir()] == ["wisdm"]
    assert load("published").sha256 == data.sha256
    load("published", download=True)
    assert len(published.asked) == 1


def test_what_lies_in_the_cache_is_checked(published: Server, tmp_path: Path) -> None:
    """An archive that somebody put there is fetched again where it is another one."""
    folder = tmp_path / "cache" / "published"
    folder.mkdir(parents=True)
    (folder / "wisdm.zip").write_bytes(b"another one")
    sha256 = hashlib.sha256(published.files["/wisdm.zip"]).hexdigest()
    assert len(load("published", download=True, sha256=sha256)) == 5
    assert len(published.asked) == 1


def test_a_damaged_archive_leaves_no_folder(published: Server, tmp_path: Path) -> None:
    published.files["/wisdm.zip"] = b"no archive"
    sha256 = hashlib.sha256(b"no archive").hexdigest()
    with pytest.raises(InvalidDataError, match="damaged, or no archive"):
        load("published", download=True, sha256=sha256)
    assert [p.name for p in (tmp_path / "cache" / "published").iterdir()] == ["wisdm.zip"]


def tar_of(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """A tar file; text as content makes a symbolic link."""
    with tarfile.open(path, "w:gz") as out:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                out.addfile(member)
            else:
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    return path


def zip_of(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """A zip file; text as content makes a symbolic link."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members:
            member = zipfile.ZipInfo(name)
            mode = 0o120777 if isinstance(content, str) else 0o100644
            member.external_attr = mode << 16
            out.writestr(member, content, zipfile.ZIP_DEFLATED)
    return path


MAKERS = pytest.mark.parametrize("make", [tar_of, zip_of])


@MAKERS
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("../evil.txt", b"x", "leads out"),
        ("a/../../evil.txt", b"x", "leads out"),
        ("/tmp/evil.txt", b"x", "leads out"),
        ("link.txt", "/etc/passwd", "link or a device"),
    ],
)
def test_hostile_members(
    tmp_path: Path, make: Any, name: str, content: bytes | str, message: str
) -> None:
    archive = make(tmp_path / "archive", ("good.txt", b"good"), (name, content))
    folder = tmp_path / "into" / "it"
    folder.mkdir(parents=True)
    with pytest.raises(InvalidDataError, match=message):
        unpack(archive, folder, wanted=("*.txt",), limit_bytes=1 << 20)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink()]


@MAKERS
def test_bombs(tmp_path: Path, make: Any) -> None:
    archive = make(tmp_path / "archive", ("a.txt", b"\0" * (4 << 20)))
    assert archive.stat().st_size < 10_000
    (tmp_path / "into").mkdir()
    with pytest.raises(InvalidDataError, match="unpacks to more than 1,048,576 bytes"):
        unpack(archive, tmp_path / "into", wanted=("*.txt",), limit_bytes=1 << 20)


def test_an_archive_within_counts_too(tmp_path: Path) -> None:
    """A zip at the top is opened, one inside that is not, and a hostile one is refused."""
    inner = zip_of(tmp_path / "inner", ("raw/a.txt", b"a"), ("raw/b.zip", b"never opened"))
    outer = zip_of(tmp_path / "outer", ("inner.zip", inner.read_bytes()), ("readme.md", b""))
    (tmp_path / "into").mkdir()
    unpack(outer, tmp_path / "into", wanted=("*.txt",), limit_bytes=1 << 20)
    found = [p.relative_to(tmp_path / "into").as_posix() for p in (tmp_path / "into").rglob("*.*")]
    assert found == ["raw/a.txt"]
    evil = zip_of(tmp_path / "evil", ("../evil.txt", b"x"))
    outer = zip_of(tmp_path / "outer2", ("inner.zip", evil.read_bytes()))
    with pytest.raises(InvalidDataError, match="leads out"):
        unpack(outer, tmp_path / "into", wanted=("*.txt",), limit_bytes=1 << 20)


@MAKERS
def test_a_cut_archive_is_a_typed_error(tmp_path: Path, make: Any) -> None:
    """At whatever byte; only a cut behind the last file's data may go unnoticed."""
    content = bytes(range(256)) * 8
    whole = make(tmp_path / "whole", ("a.txt", content)).read_bytes()
    into = tmp_path / "into"
    into.mkdir()
    refused = 0
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:length])
        try:
            unpack(cut, into, wanted=("*.txt",), limit_bytes=1 << 20)
        except EdgekitError:
            refused += 1
        else:
            assert (into / "a.txt").read_bytes() == content
    assert refused > 40


@pytest.mark.parametrize("suffix", ["xz", "bz2"])
def test_a_damaged_tar_is_a_typed_error(tmp_path: Path, suffix: str) -> None:
    """By any compression that tar knows; the folder is not to blame."""
    content = hashlib.shake_256(b"seed").digest(20_000)
    member = tarfile.TarInfo("a.txt")
    member.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{suffix}") as out:  # type: ignore[call-overload]
        out.addfile(member, io.BytesIO(content))
    data = bytearray(packed.getvalue())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "damaged").write_bytes(data)
    with pytest.raises(InvalidDataError, match="is damaged, or no archive"):
        unpack(tmp_path / "damaged", tmp_path, wanted=("*.txt",), limit_bytes=1 << 20)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_a_typed_error(tmp_path: Path, method: int) -> None:
    """By any method that zip knows; a flipped bit that no decoder looks at changes nothing."""
    content = hashlib.shake_256(b"seed").digest(300)
    path = tmp_path / "damaged"
    with zipfile.ZipFile(path, "w", method) as out:
        out.writestr("a.txt", content)
    whole = path.read_bytes()
    refused = 0
    for place in range(35, 300, 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            unpack(path, tmp_path, wanted=("*.txt",), limit_bytes=1 << 20)
        except InvalidDataError:
            refused += 1
        else:
            assert (tmp_path / "a.txt").read_bytes() == content
    assert refused > 45
