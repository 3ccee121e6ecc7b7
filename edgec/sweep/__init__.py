"""Sweeps: variants of targets, each made and measured once, wherever there is room; then timed, compared and picked.

A *cell* is a target with one share of pruning, one precision and one calibration method. Cells are made by workers on
this machine or on a cluster and kept by content; times are taken here when nothing else of the sweep runs.
"""
