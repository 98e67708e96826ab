"""Names of the files in an artifact that more than one module knows."""

from __future__ import annotations

SOURCES = "src"
"""Folder of the generated C."""

IMAGE = "image.elf"
VECTORS = "vectors.npz"
BOARD = "board.toml"
"""A board of the user's own."""

REFERENCE = "reference"
"""Folder of the float Program."""

PREPROCESSING = "preprocessing.json"

FRONTEND = "preprocessing"
"""Folder of the pre-processing as C."""

OPTIONAL = (BOARD, f"{REFERENCE}/program.json", PREPROCESSING)
"""What only some artifacts have; it is read where it is there, so it must be in the manifest."""
