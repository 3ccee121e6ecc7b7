"""edgec's artifacts beside the best stock flow of the same runtime: latency, accuracy, size, build time, memory.

`run` is the program; ``*_flow`` are the stock flows, each as a skilled user would write it down, run in a process of
its own. They use nothing of edgec.
"""
