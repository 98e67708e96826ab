"""Every kernel at zero wait states, with the cycles of one copy or round counted by hand."""

from __future__ import annotations

from micro_arithmetic import ARITHMETIC, FLOAT
from micro_branches import BRANCHES, DOT_PRODUCTS
from micro_memory import MEMORY

MICRO_KERNELS = (*ARITHMETIC, *MEMORY, *BRANCHES, *DOT_PRODUCTS, *FLOAT)
