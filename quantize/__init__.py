"""Quantisation: observers and post-training int8; the deploy path needs no torch."""
