"""Static int8 by FX graph mode, from statistics that are there; engines are judged where the target leaves a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from edgec.backends.torch_quant.audit import KEPT, NO_KERNEL
from edgec.backends.torch_quant.collect import run_observed
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.judge import best, judge, table
from edgec.backends.torch_quant.kernels import ReducedRange, fastest_first
from edgec.backends.torch_quant.layers import calls_after, check_names, float_layers_of, layer_nodes
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.observed import Observed, observe, statistics_of
from edgec.backends.torch_quant.qconfig import Granularity
from edgec.backends.torch_quant.trial import Conversion, first_line
from edgec.errors import UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage, by_reason
from edgec.passes.multiplications import multiplications
from edgec.passes.node_values import values_of
from edgec.quant.recipe import RangeMethod

if TYPE_CHECKING:
    from torch import fx

    from edgec.backends.torch_quant.dynamic_linear import Layers

DYNAMIC = "its input is quantized as the model runs, in the range that each sample has there"


@dataclass(frozen=True)
class QuantizeStatic(Pass[TorchModel]):
    """Quantize what `float_layers` leaves; of several engines take the one that is nearest to the float graph."""

    calibration: RangeMethod = "minmax"
    float_layers: tuple[str, ...] = ()
    """Names of layers that stay in float32."""
    engines: tuple[str, ...] = ("qnnpack",)
    weights: Granularity = "per-channel"
    reduced_range: ReducedRange = "auto"
    """Weights of 7 bits everywhere, nowhere, or as wide as each kernel of the device can take."""
    vnni: bool = True
    """Whether the device has x86's dot-product instructions; the other engines do not ask."""
    dynamic_linear: bool = False
    """Whether linear layers quantize their inputs as the model runs, and what stands between them is in float."""

    name: ClassVar[str] = "quantize-static"

    def run(self, model: TorchModel, ctx: PassContext) -> PassResult[TorchModel]:
        from torch import fx

        layers = layer_nodes(model)
        check_names(self.float_layers, layers, f"pass {self.name}")
        dynamic = self._dynamic(model, layers)
        observed = self._observed(model, ctx, dynamic)
        made: dict[str, TorchModel] = {}
        failures: list[Coverage] = []
        products = multiplications(model.graph, values_of(model.graph, model.example))
        for engine in fastest_first(self.engines, sum(products.values()), self.vnni):
            how = Conversion(engine, self.weights, self.reduced_range, self.vnni, ctx.threads)
            try:
                graph = how.convert(observed.graph)
                with running(engine, ctx.threads):
                    self._make_dynamic(graph, dynamic, engine)
                    fx.Interpreter(graph).run(*[item.clone() for item in model.example])
            except Exception as exc:  # whatever torch's quantizer and kernels raise
                failures.append(Coverage(subject=engine, state="skipped", reason=first_line(exc)))
                continue
            made[engine] = replace(model, graph=graph, engine=engine, statistics=None, reference=None, left_out={})
        if not made:
            raise UnsupportedError(
                f"no engine of torch can run the quantized model: {failures[0].reason}", where=model.name
            )
        engine, summary = next(iter(made)), f"{self.calibration} ranges, {observed.clamps} clamps by saturation"
        if dynamic:
            summary += f", {len(dynamic)} linear layers dynamic"
        if len(made) > 1:
            candidates = judge(model, made, ctx.calibration, ctx.threads)
            engine = best(candidates).engine
            summary = f"{engine} engine, {summary}; {table(candidates)}"
        names = {name: [node.name for node in nodes] for name, (_, nodes) in layers.items()}
        calls = calls_after(made[engine].graph, observed.graph, names)
        in_float = float_layers_of(made[engine].graph, calls)
        reasons = {**observed.excluded, **dict.fromkeys(self.float_layers, KEPT)}
        kept = [Coverage(subject=name, state="int8-dynamic", reason=DYNAMIC) for name in dynamic]
        kept += [Coverage(subject=name, state="float32", reason=reasons.get(name, NO_KERNEL)) for name in in_float]
        if not _integer_parts(made[engine]):
            raise UnsupportedError(
                "nothing of the model can be computed in int8 by torch",
                where=model.name,
                hint=_why_not(reasons),
            )
        result = replace(made[engine], float_layers=tuple(in_float), kept=reasons, calls=calls)
        return PassResult(result, summary, failures + kept)

    def ensures(self, model: TorchModel, ctx: PassContext) -> str | None:
        if not _integer_parts(model):
            return "nothing of the model was quantized"
        broken = sorted(set(self.float_layers) - set(model.float_layers))
        return f"{', '.join(broken)} should have stayed in float" if broken else None

    def _dynamic(self, model: TorchModel, layers: Layers) -> tuple[str, ...]:
        if not self.dynamic_linear:
            return ()
        from edgec.backends.torch_quant.dynamic_linear import dynamic_layers

        return dynamic_layers(model, layers, self.float_layers)

    def _make_dynamic(self, graph: fx.GraphModule, names: Sequence[str], engine: str) -> None:
        from edgec.backends.torch_quant.dynamic_linear import make_dynamic

        make_dynamic(graph, names, engine, self.weights, self.reduced_range, self.vnni)

    def _observed(self, model: TorchModel, ctx: PassContext, dynamic: Sequence[str]) -> Observed:
        """The graph with a range at each tensor to quantize."""
        from edgec.backends.torch_quant.functions_read import functions_read
        from edgec.quant.ranges import choose_range
        from edgec.quant.saturation import cut

        samples = ctx.samples(self.name)
        statistics = dict(model.statistics or {})
        histogram = any(item.histograms is not None for item in statistics.values())
        while True:
            seen = replace(model, statistics=statistics)
            observed = observe(seen, self.weights, self.reduced_range, self.engines, self.float_layers, dynamic)
            if all(statistics_of(names, statistics) is not None for _, names in observed.sources):
                break
            # a layer in float can put a tensor to quantize where there is none otherwise
            again = observe(seen, float_layers=self.float_layers, dynamic=dynamic)
            statistics = run_observed(model, again, samples, ctx.threads, histogram)[0] | statistics
        functions = functions_read(model.graph)
        for observer, names in observed.sources:
            # The largest logit decides, and a regression's extremes count as much as its middle: outputs are not
            # clipped. Of moving averages this mends half: DS-CNN 16 -> 22 dB, a small CNN 16 -> 25 dB.
            is_output = any(observer is item for item in observed.outputs)
            method = "minmax" if is_output else self.calibration
            span = choose_range(statistics_of(names, statistics), method, name=names[0])
            observer.span = cut(*span, functions.get(names[0]) if len(names) == 1 and not is_output else None)
        return observed


def _integer_parts(model: TorchModel) -> int:
    """How many int8 modules and calls a converted graph has."""
    modules = sum("quantized" in type(part).__module__ for part in model.graph.modules())
    return modules + sum("quantized" in str(node.target) for node in model.graph.graph.nodes)


def _why_not(reasons: Mapping[str, str]) -> str:
    return "; ".join([*by_reason(reasons.items())[:3], "a model of recurrent layers may take precision int8-dynamic"])
