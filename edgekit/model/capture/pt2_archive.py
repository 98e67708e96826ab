"""The zip archive of a ``.pt2`` file: limits, and a list of what may be in it."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

from edgekit.errors import InvalidModelError, UnsupportedError

GRAPH = "models/model.json"
WEIGHTS_CONFIG = "data/weights/model_weights_config.json"
CONSTANTS_CONFIG = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"

_KEPT = re.compile(
    rf"{re.escape(GRAPH)}|{re.escape(WEIGHTS_CONFIG)}|{re.escape(CONSTANTS_CONFIG)}"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|archive_format|archive_version|byteorder"
)
"""Members that are read."""

_LEFT = re.compile(
    rf"{re.escape(SAMPLES)}|extra/[\w./-]+|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment"
)
"""Members that are harmless because nobody reads them: samples are pickled, extras are notes."""

_REFUSED = (
    (r"data/aotinductor/.*", "compiled code of AOTInductor, which is never loaded"),
    (r"data/constants/(custom|opaque)_obj_.*", "a pickled object, which is never loaded"),
    (r"data/(weights|constants)/model\.pt", "pickled tensors, which are never loaded"),
    (r"serialized_exported_program\.json", "the form of torch 2.7 and older"),
    (r"(code/.*|constants\.pkl)", "TorchScript"),
    (r".*\.pkl", "a pickle, which is never loaded"),
    (r"models/.*", "a program that is not called 'model'"),
)
"""Members that are known, and what they are."""

MAX_BYTES = 2**31
"""Largest sum of all members; larger models fit no target."""

MAX_MEMBERS = 100_000

_ENCRYPTED = 0x1

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Stored is what torch writes, deflated what any packer makes of it."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)
"""What the standard library raises on archives that are none, or are cut short."""


def read_archive(path: Path) -> dict[str, bytes]:
    """The members of a ``.pt2`` file that make up its program, by name without the root folder.

    Raises:
        InvalidModelError: no such file, no zip archive, corrupt, too large, or with unknown names.
        UnsupportedError: members that would have to be trusted.
    """
    if not path.is_file():
        raise InvalidModelError(f"{path} does not exist or is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            return _members(archive, str(path))
    except _DAMAGED as error:
        raise InvalidModelError(f"{path} is no archive of torch.export.save: {error}") from error
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _members(archive: zipfile.ZipFile, where: str) -> dict[str, bytes]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > MAX_BYTES:
        raise InvalidModelError(
            f"{where} holds {len(infos)} members of {sum(i.file_size for i in infos)} bytes, "
            f"at most {MAX_MEMBERS} of {MAX_BYTES} together are read"
        )
    roots = {info.filename.partition("/")[0] for info in infos}
    names = [info.filename.partition("/")[2] for info in infos]
    if "serialized_exported_program.json" in roots:
        raise UnsupportedError(
            f"{where} has the form of torch 2.7 and older; load it there with torch.export.load "
            "and save it again with a newer torch"
        )
    if len(roots) != 1 or len(set(names)) != len(names):
        raise InvalidModelError(f"{where}: its members must be unique and lie in one folder")
    for name in names:
        _check_name(name, where)
    members = {}
    for info, name in zip(infos, names, strict=True):
        if info.flag_bits & _ENCRYPTED:
            raise InvalidModelError(f"{where}: {name} is encrypted")
        if info.compress_type not in _COMPRESSIONS:
            raise InvalidModelError(
                f"{where}: {name} is compressed by method {info.compress_type}, must be stored or "
                "deflated"
            )
        if _KEPT.fullmatch(name):
            with archive.open(info) as member:
                # One byte more than declared shows a header that lies.
                data = member.read(info.file_size + 1)
            if len(data) != info.file_size:
                raise InvalidModelError(f"{where}: {name} is not as long as declared")
            members[name] = data
    _check_format(members, where)
    return members


def _check_name(name: str, where: str) -> None:
    if ".." in name.split("/"):
        raise InvalidModelError(f"{where}: member {name!r} leaves the archive")
    if _KEPT.fullmatch(name) or _LEFT.fullmatch(name):
        return
    for pattern, what in _REFUSED:
        if re.fullmatch(pattern, name):
            raise UnsupportedError(
                f"{where}: member {name!r} is {what}; save the program with "
                "torch.export.save(torch.export.export(module.eval(), inputs), path)"
            )
    raise InvalidModelError(f"{where}: unknown member {name!r}")


def _check_format(members: dict[str, bytes], where: str) -> None:
    if members.get("archive_format") != b"pt2":
        raise InvalidModelError(f"{where} is no archive of torch.export.save")
    if members.get("archive_version") != b"0":
        version = members.get("archive_version", b"?").decode("ascii", "replace")
        raise UnsupportedError(f"{where}: archive version {version!r} is not known, must be '0'")
    if members.get("byteorder", b"little") != b"little":
        raise UnsupportedError(f"{where}: its tensors must be little-endian")
