"""What a build has made and measured, and which of its artifacts go into the bundle: those that meet all gates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from edgec.build.artifact import BuiltArtifact, FailedArtifact
from edgec.build.prepare import Prepared
from edgec.errors import EdgecError, GateError
from edgec.plan.plan import Plan
from edgec.target.spec import Target
from edgec.verify.gates import gate_line
from edgec.verify.records import GateResult, Measurement, RungRecord


@dataclass(frozen=True)
class BuildResult:
    """What a build has made and measured."""

    prepared: Prepared
    built: tuple[BuiltArtifact, ...]
    """May miss gates (`without_missed`)."""
    gates: tuple[GateResult, ...]
    failures: tuple[FailedArtifact, ...]

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Of all artifacts in all runtimes."""
        return tuple(item for one in self.built for item in one.measurements)

    @property
    def rungs(self) -> tuple[RungRecord, ...]:
        """Of all artifacts."""
        return tuple(rung for one in self.built for rung in one.rungs)


def without_missed(result: BuildResult, plan: Plan) -> BuildResult:
    """`result` with those artifacts among the failures that miss a gate, in the plan's order."""
    failures = {item.file: item for item in result.failures}
    for gate in _failed(result.gates):
        if gate.artifact not in failures:
            gates = tuple(item for item in _failed(result.gates) if item.artifact == gate.artifact)
            failures[gate.artifact] = FailedArtifact(gate.artifact, _error(gates, plan.target, gate.artifact), gates)
    return replace(
        result,
        built=tuple(one for one in result.built if one.artifact.file not in failures),
        gates=tuple(gate for gate in result.gates if gate.artifact not in failures),
        failures=tuple(failures[item.file] for item in plan.emits if item.file in failures),
    )


def ending(result: BuildResult, plan: Plan, *, all_or_nothing: bool) -> EdgecError | None:
    """What a build without a bundle ends with; None: there is one to write.

    That is the first artifact that could not be made, or all gates that were missed.

    Args:
        result: of a build.
        plan: of it.
        all_or_nothing: whether one missed gate is enough, else no artifact may be right.
    """
    failed = _failed(result.gates)
    if not (all_or_nothing and failed) and without_missed(result, plan).built:
        return None
    if result.failures:
        return result.failures[0].error
    return _error(failed, plan.target, plan.target.name, ", so no bundle was written")


def _failed(gates: Sequence[GateResult]) -> tuple[GateResult, ...]:
    return tuple(gate for gate in gates if gate.state == "failed")


def _error(failed: Sequence[GateResult], target: Target, where: str, outcome: str = "") -> GateError:
    lines = [f"{gate.artifact} in {gate.runtime}: {gate_line(gate)}" for gate in failed]
    return GateError(
        f"{len(failed)} gate{'s' if len(failed) > 1 else ''} not met{outcome}\n  " + "\n  ".join(lines),
        where=where,
        hint=_advice(target, {gate.gate for gate in failed}),
    )


def _advice(target: Target, gates: Collection[str]) -> str:
    ways = ["a wider gate under [gates]"]
    if set(gates) <= {"max_size_kib", "size_kib"}:
        return "what may help: a smaller model, more [prune] amount, int8 if it is not yet, or a larger budget"
    if target.precision != "fp32":
        ways.insert(0, "a target of higher precision")
    if target.precision == "int8":
        ways.insert(0, "more or better calibration data")
    pruned = {"amount": target.prune.amount, "sparsity": target.prune.sparsity}
    ways[:0] = [f"a smaller [prune] {key} than {value:g}" for key, value in pruned.items() if value]
    return "what may help: " + ", ".join(ways)
