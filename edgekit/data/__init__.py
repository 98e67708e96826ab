"""Data sets: read from files as their publishers distribute them, split, windowed, preprocessed.

NumPy only. Nothing is fetched unless asked for, and then only with a known checksum.

>>> from edgekit.data import load
>>> digits = load("digits")  # doctest: +SKIP
"""

from edgekit.data.cache import cache_folder
from edgekit.data.dataset import DATASETS, Dataset
from edgekit.data.loading import load
from edgekit.data.preprocessing import Clip, Preprocessing, Scale, Standardize, Window

__all__ = [
    "DATASETS",
    "Clip",
    "Dataset",
    "Preprocessing",
    "Scale",
    "Standardize",
    "Window",
    "cache_folder",
    "load",
]
