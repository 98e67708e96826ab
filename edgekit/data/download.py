"""Fetching published files: checked, resumed, and there whole or not at all."""

from __future__ import annotations

import errno
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.data.files import CHUNK_BYTES, file_sha256
from edgekit.errors import DownloadError, OutputError, UsageError
from edgekit.version import edgekit_version

TIMEOUT_S = 30
"""Longest silence of a server."""

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes there, bytes in all or None)."""


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str,
    limit_bytes: int,
    progress: Progress | None = None,
) -> None:
    """Download a file; what arrived before an interruption is kept and continued.

    Bytes go to ``<destination>.part``. The file takes its name only when its checksum is right;
    with a wrong one it is deleted.

    Args:
        url: ``http`` or ``https``.
        destination: the file to make; its folder is made as well.
        sha256: 64 hexadecimal digits that the file must have.
        limit_bytes: more is never written.
        progress: see :data:`Progress`.

    Raises:
        DownloadError: no network, an HTTP error, a file that ends early, is too large or is not the
            one that was wanted.
        OutputError: the folder cannot be written, or the disk is full.
        UsageError: no such scheme, or no checksum.
    """
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"{url}: must be http or https")
    check_sha256(sha256)
    part = destination.with_name(destination.name + ".part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part, limit_bytes, progress)
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise DownloadError(
            f"{url}: the connection broke: {error or type(error).__name__}; try again, "
            "it goes on from there"
        ) from error
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"{url}: cannot be reached: {error.reason}") from error
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise OutputError(f"{part}: cannot be written: {reason}") from error
    got = file_sha256(part)
    if got != sha256.lower():
        part.unlink()
        raise DownloadError(
            f"{url}: sha256 is {got}, must be {sha256.lower()}; it was deleted: the publisher "
            "changed the file, or something on the way did"
        )
    os.replace(part, destination)


def check_sha256(sha256: str) -> None:
    """Refuse what is no checksum.

    Raises:
        UsageError: not 64 hexadecimal digits.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"sha256 {sha256!r} must be 64 hexadecimal digits")


def _receive(url: str, part: Path, limit_bytes: int, progress: Progress | None) -> None:
    """Fill the part file, from where it ends if the server can continue."""
    there = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"edgekit/{edgekit_version()}", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # Nothing lies behind what is there: it is whole, or of another file. The checksum tells.
        return
    with response:
        continued = response.status == http.HTTPStatus.PARTIAL_CONTENT and _starts_at(
            response.headers, there
        )
        done = there if continued else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None and length.isdigit() else None
        if (total or 0) > limit_bytes:
            raise DownloadError(f"{url}: has {total:,} bytes, more than {limit_bytes:,}")
        with part.open("ab" if continued else "wb") as out:
            while chunk := response.read(CHUNK_BYTES):
                done += len(chunk)
                if done > limit_bytes:
                    raise DownloadError(f"{url}: has more than {limit_bytes:,} bytes")
                out.write(chunk)
                if progress is not None:
                    progress(part.stem, done, total)
        if total is not None and done < total:
            raise ConnectionError(f"{done:,} of {total:,} bytes came")


def _starts_at(headers: Any, offset: int) -> bool:
    return str(headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def show_on_stderr(name: str, done: int, total: int | None) -> None:
    """Progress as one line that overwrites itself; nothing where stderr is no terminal."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        of = "" if total is None else f" of {total / 1e6:,.1f}"
        sys.stderr.write(f"\r{name}: {done / 1e6:,.1f}{of} MB {end}")
        sys.stderr.flush()
