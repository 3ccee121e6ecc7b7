"""TensorFlow Lite: ONNX -> onnx2tf -> TensorFlow's converter -> ``model.tflite``.

`lower` and the passes import TensorFlow and onnx2tf, inside the compile worker only; the runner imports one
interpreter and nothing of TensorFlow. Nothing here may be imported at module level that costs more than NumPy.
"""
