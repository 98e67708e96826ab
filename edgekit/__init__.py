"""edgekit: deploy quantised networks to microcontrollers, ARM CPUs and Jetson, bit for bit."""
