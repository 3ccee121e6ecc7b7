"""The backends, one folder each, all of one anatomy: backend.py, capability.py, passes, runner.py."""
