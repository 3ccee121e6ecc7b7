"""Small nets, one a kind of op, each between layers that quantizers take: what a backend must take or leave."""

from op_nets import dtypes, elementwise, products, shapes
from op_nets.make import Net

NETS: dict[str, Net] = {**dtypes.NETS, **elementwise.NETS, **products.NETS, **shapes.NETS}
