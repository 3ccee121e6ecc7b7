"""TorchScript artifacts for 64-bit ARM devices, on torch's qnnpack kernels."""
