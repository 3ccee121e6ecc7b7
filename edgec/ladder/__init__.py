"""The accuracy ladder: which recipes are tried for an artifact, in which order, and how one is chosen."""
