"""Templates of CI jobs, written by `edgec init`."""
