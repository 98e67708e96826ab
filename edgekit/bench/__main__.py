"""``python -m edgekit.bench FOLDER …``: the command of a board, for an artifact anywhere."""

from __future__ import annotations

import sys
from pathlib import Path

from edgekit.bench.main import main

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m edgekit.bench FOLDER [options]; --help after the folder")
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
