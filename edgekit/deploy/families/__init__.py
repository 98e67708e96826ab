"""How an artifact is made for each family of targets: one file per family, one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.deploy.families import jetson, microcontroller, processor
from edgekit.deploy.families.family import Family
from edgekit.targets.target import ARM_CPU, HOST, JETSON, MICROCONTROLLER

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        HOST: processor.NATIVE,
        MICROCONTROLLER: microcontroller.FAMILY,
        ARM_CPU: processor.CROSS,
        JETSON: jetson.FAMILY,
    }
)
"""Every family by the name that targets carry."""
