"""ONNX graphs as FX graphs of plain ``torch.nn`` modules and torch functions: edgec's own converters, one an op.

Here live the interpreter of the graph (`build`), the recorder that turns torch calls into an FX graph (`recorder`),
what a converter sees of its node (`call`), and the converters by family, gathered in `table`. A converter is plain
torch code: it computes where its inputs are constants, and is recorded where one comes from the model's inputs.
"""
