"""Bundles in OCI registries."""
