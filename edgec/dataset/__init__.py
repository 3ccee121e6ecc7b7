"""The user's samples: readers (npz, npy, folders, Python entry), preprocessing, balancing, spools, leak check.

`write.write_spool` is the way in; everything else serves it. Nothing here knows a model beyond its input specs,
and nothing here imports a framework.
"""
