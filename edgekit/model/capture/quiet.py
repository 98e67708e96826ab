"""Keep torch's exporters silent: they print progress, warnings and hints for their developers."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator

log = logging.getLogger("edgekit")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what is printed, logged or warned inside; with ``-v`` it goes to stderr."""
    if log.isEnabledFor(logging.DEBUG):
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
