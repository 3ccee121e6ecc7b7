"""TorchScript artifacts for x86-64 devices, on torch's fbgemm kernels."""
