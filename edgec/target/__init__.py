"""Targets as data: the typed records, TOML loading with provenance, and selection by name or glob.

Nothing here probes the host or imports a framework: describing a target is pure data.
"""
