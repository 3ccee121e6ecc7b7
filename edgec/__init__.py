"""edgec: an ahead-of-time compiler from trained PyTorch or ONNX models to verified edge bundles."""
