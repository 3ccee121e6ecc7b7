"""Bundles to and from folders, OCI registries and S3: nothing partial is ever seen, every digest is checked."""
