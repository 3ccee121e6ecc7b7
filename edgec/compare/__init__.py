"""Comparison of two bundles: what became worse, and by how much."""
