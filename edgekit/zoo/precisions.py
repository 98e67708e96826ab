"""Precisions that networks are trained in."""

TRAINED_PRECISIONS = ("w8", "w4", "w158", "shift2", "shift3", "w1")
"""Weights that recipes train; networks on real numbers get int8 activations with them."""
