"""Quantization-aware training: the float model learns weights that lie on a backend's grid.

Nothing here knows a backend: its grid comes as a value, and what comes out is a plain float model.
"""
