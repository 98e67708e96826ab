"""What code executes, and what memory makes it wait: recorded in the emulator and in QEMU."""
