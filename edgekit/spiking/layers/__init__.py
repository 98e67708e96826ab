"""Trainable layers on snnTorch neurons."""
