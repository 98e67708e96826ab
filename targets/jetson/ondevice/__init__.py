"""What an artifact for Jetson carries to build its engines on the device."""
