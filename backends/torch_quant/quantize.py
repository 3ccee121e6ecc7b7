"""Static int8 by FX graph mode, with candidates judged on calibration samples where the target leaves a choice."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.judge import Candidate, best, judge, table
from edgec.backends.torch_quant.kernels import TRANSPOSED, ReducedRange
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.qconfig import Granularity, Observer, narrow_weights, static_mapping
from edgec.backends.torch_quant.saturate import clamp_in_float, saturate
from edgec.dataset.spool import Spool
from edgec.errors import DatasetError, UnsupportedError
from edgec.passes.contract import Coverage, PassContext, PassResult

if TYPE_CHECKING:
    import torch
    from torch import fx

HISTOGRAM_SAMPLES = 64
"""Histogram observers are some ten times slower than min-max, and settle early."""


@dataclass(frozen=True)
class QuantizeStatic:
    """FX quantization; of several engines and observers the one that is nearest to the float graph."""

    engines: tuple[str, ...]
    observers: tuple[Observer, ...] = ("minmax",)
    weights: Granularity = "per-channel"
    reduced_range: ReducedRange = "auto"
    """Weights of 7 bits everywhere, nowhere, or as wide as each kernel of the device can take."""
    vnni: bool = True
    """Whether the device has x86's dot-product instructions; the other engines do not ask."""

    @property
    def name(self) -> str:
        return "quantize-static"

    def requires(self, model: TorchModel, ctx: PassContext) -> str | None:
        return None

    def run(self, model: TorchModel, ctx: PassContext) -> PassResult[TorchModel]:
        if ctx.calibration is None or len(ctx.calibration) == 0:
            raise DatasetError("static int8 needs calibration samples", where=f"pass {self.name}")
        made: dict[tuple[str, Observer], TorchModel] = {}
        failures: list[Coverage] = []
        clamps = 0
        for observer in self.observers:
            prepared, clamps = self._observe(model, observer, ctx.calibration, ctx.threads)
            for engine in self.engines:
                try:
                    made[engine, observer] = replace(model, graph=self._convert(prepared, engine, ctx), engine=engine)
                    with running(engine, ctx.threads):
                        made[engine, observer].graph(*[item.clone() for item in model.example])
                except (RuntimeError, NotImplementedError, UnsupportedError) as exc:
                    made.pop((engine, observer), None)
                    reason = str(exc).strip().splitlines()[0]
                    failures.append(Coverage(subject=f"{engine}, {observer}", state="skipped", reason=reason))
        if not made:
            raise UnsupportedError(
                f"no engine of torch can run the quantized model: {failures[0].reason}", where=model.name
            )
        key, summary = next(iter(made)), f"{clamps} clamps by saturation"
        if len(self.engines) * len(self.observers) > 1:
            candidates: list[Candidate] = judge(model, made, ctx.calibration, ctx.threads)
            chosen = best(candidates)
            key = (chosen.engine, chosen.observer)
            summary = f"{key[0]} engine, {key[1]} observers, {summary}; {table(candidates)}"
        return PassResult(made[key], summary, failures)

    def ensures(self, model: TorchModel, ctx: PassContext) -> str | None:
        quantized = sum("quantized" in type(part).__module__ for part in model.graph.modules())
        functional = sum("quantized" in str(node.target) for node in model.graph.graph.nodes)
        return None if quantized + functional else "nothing of the model was quantized"

    def _observe(
        self, model: TorchModel, observer: Observer, samples: Spool, threads: int
    ) -> tuple[fx.GraphModule, int]:
        from torch.ao.quantization.quantize_fx import prepare_fx

        mapping = static_mapping(
            observer,
            self.weights,
            reduced=self.reduced_range == "yes",
            reduced_functions=self.reduced_range == "auto" and self.engines != ("qnnpack",),
            transposed=TRANSPOSED.issuperset(self.engines),
        )
        graph = copy.deepcopy(model.graph)
        clamp_in_float(graph)
        limit = HISTOGRAM_SAMPLES if observer == "histogram" else len(samples)
        with running(model.engine, threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepared = prepare_fx(graph, mapping, model.example)
            for index in spread(len(samples), limit):
                prepared(*call_arguments(model, samples[index]))
        return prepared, saturate(prepared)

    def _convert(self, prepared: fx.GraphModule, engine: str, ctx: PassContext) -> Any:
        from torch.ao.quantization.quantize_fx import convert_fx

        graph = copy.deepcopy(prepared)
        if self.reduced_range == "auto":
            narrow_weights(graph, engine, self.vnni, self.weights)
        with running(engine, ctx.threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert_fx(graph)


def spread(total: int, limit: int) -> Sequence[int]:
    """At most `limit` of `total` indices, evenly spaced."""
    if total <= limit:
        return range(total)
    return [index * total // limit for index in range(limit)]


def call_arguments(model: TorchModel, sample: Any) -> list[torch.Tensor]:
    """A sample's tensors in call order."""
    import torch

    return [torch.from_numpy(sample[item.name]) for item in model.inputs]
