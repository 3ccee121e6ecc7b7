"""Building one target: from a plan to a verified bundle."""
