"""Torch's int8 kernels against float arithmetic on the same int8 inputs, node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from edgec.backends.torch_quant.audit import FLOAT
from edgec.backends.torch_quant.trial import first_line
from edgec.errors import UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch import fx

LEAST_DB = 10.0
"""Least SQNR of a kernel's result against the exact one."""
MOST_STEPS = 4.0
"""Root mean square of the errors of a kernel that is right, however small its result: some round in two places."""


def wrong_kernels(graph: fx.GraphModule, reference: fx.GraphModule, sample: Sequence[torch.Tensor]) -> dict[str, str]:
    """Nodes of an int8 graph whose kernel gives something else than its float form on the inputs that it has.

    Kernels whose float form is not known are not judged: those of functions with packed weights.

    Args:
        graph: the int8 graph.
        reference: the same with each layer in float, under the same path.
        sample: one, in call order.

    Returns:
        Name of the node -> what is wrong.

    Raises:
        UnsupportedError: a node fails; `where` is its name.
    """
    import torch
    from torch import fx

    wrong: dict[str, str] = {}

    class _Checker(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if not n.op.startswith("call_"):
                return super().run_node(n)
            sources = [self.env[item] for item in n.all_input_nodes]
            quantized = any(isinstance(item, torch.Tensor) and item.is_quantized for item in sources)
            # an op in place changes what is compared
            args, kwargs = self.fetch_args_kwargs_from_env(n) if quantized else ((), {})
            args, kwargs = fx.node.map_aggregate((args, kwargs), _as_float)
            try:
                result = super().run_node(n)
            except Exception as exc:
                name = _called(n, graph)
                raise UnsupportedError(f"{FLOAT}: torch's int8 {name} fails: {first_line(exc)}", where=n.name) from exc
            if quantized and isinstance(result, torch.Tensor) and result.is_quantized:
                form = _float_form(n, reference)
                if form is not None and (difference := _difference(form(*args, **kwargs), result)):
                    wrong[n.name] = (
                        f"{FLOAT}: torch's int8 {_called(n, graph)} gives something else here ({difference})"
                    )
            return result

    with torch.no_grad():
        _Checker(graph).run(*[item.clone() for item in sample])
    return wrong


def _called(node: fx.Node, graph: fx.GraphModule) -> str:
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target)).rpartition(".")[2]


def _as_float(value: Any) -> Any:
    import torch

    return value.dequantize() if isinstance(value, torch.Tensor) and value.is_quantized else value


def _difference(wanted: Any, given: torch.Tensor) -> str:
    """How far a kernel's result is from the exact one, if that is too far."""
    import torch

    if wanted.shape != given.shape:
        return f"shape {tuple(given.shape)}, not {tuple(wanted.shape)}"
    exact = torch.quantize_per_tensor(wanted.float(), given.q_scale(), given.q_zero_point(), given.dtype).dequantize()
    error = (given.dequantize() - exact).double().square().mean()
    signal = exact.double().var(correction=0) if exact.numel() > 1 else exact.double().square().mean()
    steps = float(error.sqrt()) / given.q_scale()
    if steps <= MOST_STEPS or float(signal) > float(error) * 10 ** (LEAST_DB / 10):
        return ""
    return f"{steps:.0f} steps off in the mean"


def _float_form(node: fx.Node, reference: fx.GraphModule) -> Callable[..., Any] | None:
    if node.op == "call_module":
        try:
            return reference.get_submodule(str(node.target))
        except AttributeError:
            return None
    if node.op == "call_method":
        return lambda first, *args, **kwargs: getattr(first, str(node.target))(*args, **kwargs)
    if "quantized" not in str(node.target):
        return node.target if callable(node.target) else None
    return _float_forms().get(node.target)


@cache
def _float_forms() -> dict[Any, Callable[..., Any]]:
    """What torch's functions compute that take int8 tensors and give such; the scale they are given follows."""
    import torch

    ours: Any = torch.ops.quantized
    return {
        **dict.fromkeys((ours.add, ours.add_scalar), lambda x, y, *_: x + y),
        **dict.fromkeys((ours.add_relu, ours.add_scalar_relu), lambda x, y, *_: (x + y).relu()),
        **dict.fromkeys((ours.mul, ours.mul_scalar), lambda x, y, *_: x * y),
        **dict.fromkeys((ours.mul_relu, ours.mul_scalar_relu), lambda x, y, *_: (x * y).relu()),
        ours.matmul: lambda x, y, *_: x @ y,
    }
