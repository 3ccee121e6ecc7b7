"""Executing a plan: preparing model and data, making the artifacts and timing them. Knows no framework or backend."""
