"""Quantization that all backends share: recipes, statistics of tensors, ranges, qparams. Imports no framework."""
