"""Files and folders that are there whole or not at all: atomic writes, staging, the result cache, workspaces."""
