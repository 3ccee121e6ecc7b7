"""Quantization-aware training: the float model learns weights that lie on a backend's grid.

Modules that import torch at their top are only for use inside functions, and say so. Nothing here knows a backend: its
grid comes as a value, and what comes out is a plain float model.
"""
