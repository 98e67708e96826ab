"""These tests import torch and snnTorch; where torch is missing they are not even collected."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]
