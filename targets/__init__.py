"""Targets: cores, boards, toolchains, emulators, the C back end."""
