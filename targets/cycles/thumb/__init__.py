"""Thumb code: decoding, down to what a pipeline must know of an instruction."""
