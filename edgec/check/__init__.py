"""Checks of a project before any work: `edgec check`, and the first seconds of each build.

Every check has a module and runs whatever the others report: the data is checked though the model cannot be loaded.
Results are records (`edgec.check.records`); nothing is printed, lowered, quantized or written beside the project.
"""
