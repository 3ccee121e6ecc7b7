"""Pruning: whole channels out of a float model, or zeros into its weights, and training that makes up for it.

Modules that import torch at their top are only for use inside functions, and say so. Nothing here knows a backend.
"""
