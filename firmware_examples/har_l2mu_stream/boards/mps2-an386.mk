# Arm MPS2+ with the FPGA image AN386: Cortex-M4 with floating-point unit.
TARGET := cortex-m4
CORE := -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard
