"""TensorFlow Lite: ONNX -> onnx2tf's direct converter -> a float flatbuffer -> its precision -> ``model.tflite``.

`lower` and the passes import onnx2tf, and TensorFlow for static int8 and for what the direct converter lacks, inside
the compile worker only; the runner imports one interpreter and nothing of TensorFlow. Nothing here may be imported at
module level that costs more than NumPy.
"""
