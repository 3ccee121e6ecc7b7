"""Two bundles side by side: what became worse, and by how much."""
