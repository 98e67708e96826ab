"""Application processors under Linux: CPUs, cross compilers, shared objects, emulation."""
