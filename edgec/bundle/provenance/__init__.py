"""Keys, signatures, attestations and the bill of materials of bundles; works offline."""
