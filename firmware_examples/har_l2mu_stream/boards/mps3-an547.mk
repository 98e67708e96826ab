# Arm MPS3 with the FPGA image AN547 (Corstone-300): Cortex-M55 with Helium for integers. Helium's
# vectors of floats flush subnormal numbers to zero; scalars do not, and are what we take.
TARGET := mps3-an547
CORE := -mcpu=cortex-m55+nomve.fp -mthumb -mfloat-abi=hard
