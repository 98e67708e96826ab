"""Signals of child processes."""

from __future__ import annotations

import signal


def hear_interrupts() -> None:
    """For ``preexec_fn``: what a shell starts in the background is deaf to Ctrl-C, children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
