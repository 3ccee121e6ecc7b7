"""The pass contract, its runner, and the portable passes over the float model (one pass a file)."""
