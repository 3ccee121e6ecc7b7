"""Real models that people deploy, through every backend: `make test-zoo`."""
