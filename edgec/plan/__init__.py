"""Target + project -> plan: what a build will do, as values."""
