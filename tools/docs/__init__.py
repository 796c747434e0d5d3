"""Documentation made from the code."""
