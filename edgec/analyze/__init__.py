"""Which layers lose most when they are quantized: `edgec analyze`."""
