"""The float model: loading it without executing untrusted code, its input spec, its fingerprint, ONNX export."""
