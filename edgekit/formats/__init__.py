"""Number formats: levels, packing; NumPy only."""
