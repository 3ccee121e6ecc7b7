"""Quantization that all backends share: recipes, statistics of tensors, ranges, qparams. NumPy only: no framework here."""
