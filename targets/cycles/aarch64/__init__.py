"""AArch64 code on application processors: llvm-mca, and an approximation without it."""
