"""Publishing of bundles to folders, OCI registries and S3, and pulling: atomic, with every digest checked."""
