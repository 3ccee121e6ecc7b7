"""Finished bundles on new samples: accuracy, agreement with float, and drift from the calibration data."""
