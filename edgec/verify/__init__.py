"""Judging artifacts: metrics, fidelity to the float model, dtype audit, gates with paired statistics.

`run` makes outputs (in worker processes), `measure` turns them into a `records.Measurement`, `gates` judges those.
"""
