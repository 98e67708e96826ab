"""What only microcontrollers have: boards and images."""
