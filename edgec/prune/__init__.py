"""Pruning: whole channels out of a float model, or zeros into its weights, and training that makes up for it.

Nothing here knows a backend.
"""
