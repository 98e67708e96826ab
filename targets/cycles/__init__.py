"""What code costs on a core, modelled: instructions in order, hazards, and the board's memory."""
