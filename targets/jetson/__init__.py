"""Jetson modules: what TensorRT takes, and what is built and measured on the device."""
