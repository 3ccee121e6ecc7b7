"""Finished bundles on new samples: how they do there, and whether the samples are of the kind they were made for."""
