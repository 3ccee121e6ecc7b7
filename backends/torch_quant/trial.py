"""One try of torch's own way, on one sample: does it convert, run and trace the graph, and are its kernels right?"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.kernels import ReducedRange
from edgec.backends.torch_quant.model import TorchModel, copy_of
from edgec.backends.torch_quant.observed import Observed, observe
from edgec.backends.torch_quant.qconfig import Granularity, narrow_weights
from edgec.errors import UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch import fx

    from edgec.backends.torch_quant.range_observer import RangeObserver


@dataclass(frozen=True)
class Conversion:
    """How float graphs become int8 ones."""

    engine: str
    weights: Granularity
    reduced_range: ReducedRange
    vnni: bool
    threads: int

    def convert(self, prepared: fx.GraphModule, *, reference: bool = False) -> fx.GraphModule:
        """The int8 graph of an observed one whose ranges are chosen; `reference`: with all its ops in float."""
        from torch.ao.quantization.quantize_fx import convert_fx, convert_to_reference_fx

        graph = copy_of(prepared)
        if self.reduced_range == "auto":
            narrow_weights(graph, self.engine, self.vnni, self.weights)
        step: Callable[[fx.GraphModule], fx.GraphModule] = convert_to_reference_fx if reference else convert_fx
        with running(self.engine, self.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return step(graph)


def try_without(
    model: TorchModel, left_out: Mapping[str, str], how: Conversion, sample: Sequence[torch.Tensor]
) -> None:
    """Convert `model` with the nodes of `left_out` in float, run it on `sample`, trace it, and check its kernels.

    Args:
        model: the lowered float model.
        left_out: node -> why it stays in float.
        how: of the conversion.
        sample: the inputs of one run.

    Raises:
        UnsupportedError: a step fails; `where` is the node, if it is known.
    """
    from edgec.backends.torch_quant.check_kernels import wrong_kernels
    from edgec.backends.torch_quant.emit import script

    model = replace(model, left_out=left_out, example=tuple(sample))
    with _explained("torch's quantizer cannot observe it"):
        observed = observe(model, how.weights, how.reduced_range, (how.engine,))
        _choose_ranges(observed, how, sample)
    with _explained("torch's quantizer cannot convert it"):
        graph = how.convert(observed.graph)
        reference = how.convert(observed.graph, reference=True)
    with running(how.engine, how.threads):
        if wrong := wrong_kernels(graph, reference, sample):
            name, reason = next(iter(wrong.items()))
            raise UnsupportedError(reason, where=name)
        with _explained("torch cannot trace what its quantizer made"):
            script(replace(model, graph=graph))(*[item.clone() for item in sample])


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Any error of torch's as an `UnsupportedError`."""
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as exc:
        raise UnsupportedError(f"{what}: {first_line(exc)}") from exc


def first_line(error: BaseException) -> str:
    """What an error says first."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _choose_ranges(observed: Observed, how: Conversion, sample: Sequence[torch.Tensor]) -> None:
    """The extremes of one sample as ranges, in place."""
    from torch import fx

    def look(observer: RangeObserver, arguments: Any, _: Any) -> None:
        value = arguments[0].detach()
        finite = value[value.isfinite()]
        low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
        before = observer.span or (0.0, 0.0)
        observer.span = (min(before[0], low), max(before[1], high))

    handles = [observer.register_forward_hook(look) for observer, _ in observed.sources]
    try:
        with running(how.engine, how.threads):
            fx.Interpreter(observed.graph).run(*[item.clone() for item in sample])
    finally:
        for handle in handles:
            handle.remove()
    for observer, _ in observed.sources:
        observer.span = observer.span or (0.0, 1.0)
