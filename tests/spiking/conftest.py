"""Tests that import torch at once are not even collected where it is missing."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_nir_snntorch.py"]
