"""Real servers on loopback that tests publish to, and a wire between that can be cut. Imported as ``servers``."""
