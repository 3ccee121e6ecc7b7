"""Bundles: what their manifest says, how they are written all or nothing, and how they are checked."""
