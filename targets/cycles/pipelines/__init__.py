"""The pipelines of the Cortex-M cores: tables, and what they make of a block."""
