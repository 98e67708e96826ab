"""Measuring on a device: standard library and NumPy only, so that a board can run it."""
