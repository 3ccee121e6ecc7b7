"""Judging artifacts: metrics, fidelity to the float model, dtype audit, gates with paired statistics."""
