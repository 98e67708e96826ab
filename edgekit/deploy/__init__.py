"""Artifacts: made by export, opened on devices, verified and measured."""
