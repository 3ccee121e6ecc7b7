"""ONNX artifacts for ONNX Runtime: fp32, fp16, static int8 (QDQ) and dynamic int8.

Everything that imports `onnx` or `onnxruntime` lives here and does so inside functions; nothing here knows
another backend.
"""
