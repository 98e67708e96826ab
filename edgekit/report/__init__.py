"""Reports compared and drawn, on the host."""
