"""Oracles that are torch packages; where torch is missing their tests are not even collected."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_brevitas_torchao.py"]
