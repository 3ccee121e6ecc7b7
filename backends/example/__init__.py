"""The template of a backend, and the compiler's quick test double: chains of plain layers, computed by NumPy.

Copy this folder to begin a backend. Its anatomy is that of all backends:

- ``backend.py``     the object that the registry knows; says what it can do without importing a framework
- ``capability.py``  which op in which scheme, as a table
- ``model.py``       the model between the passes, and its fingerprint
- ``lower.py``       from the float model to it, or a refusal that names the layer
- ``quantize.py``    the backend's own passes
- ``emit.py``        the artifact file, and what edgec knows of its format
- ``run_npz.py``     runs the artifact without edgec; bundles carry this file
- ``runner.py``      the artifact in its runtime, with the ops that it executes
"""
