"""The share of channels that makes an artifact as fast as asked for: kept by timing, once, and then kept."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from edgec.backends.interface import Artifact
from edgec.dataset.spool import Spool
from edgec.errors import PassError
from edgec.frozen import digest_json
from edgec.ladder.maker import COMPILER
from edgec.ladder.requests import CompileAnswer, CompileRequest, CompilerOptions
from edgec.machine import host_machine, matches
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage
from edgec.passes.runner import run_passes
from edgec.plan.context import BuildContext
from edgec.plan.identity import environment
from edgec.plan.rungs import first_recipe
from edgec.prune.goals import NEAR, search_share
from edgec.prune.requests import PruneAnswer, PruneRequest
from edgec.storage.temporary import private_folder
from edgec.target.spec import GRADIENT_IMPORTANCES, PruneSpec, Target
from edgec.verify.requests import ArtifactFile, TimingAnswer, TimingRequest
from edgec.workers.log import captured
from edgec.workers.worker import WITH_TORCH, Worker


def find_share(
    context: BuildContext,
    spec: PruneSpec,
    model: FloatModel,
    identity: dict[str, Any],
    calibration: Spool | None,
    samples: Spool,
) -> tuple[float, tuple[Coverage, ...]]:
    """The share of channels whose removal takes `PruneSpec.amount` of the primary artifact's latency away.

    Probes are pruned by magnitudes and not trained, made in the target's precision by its first recipe, and timed in
    turns with the unpruned artifact of the same precision, in the first of its runtimes.

    Args:
        context: of the build.
        spec: what to remove, `PruneSpec.round_to` stated.
        model: of plain modules, with BatchNorm.
        identity: everything else that a pruned model follows from; the share kept is kept by it.
        calibration: samples for static int8.
        samples: the first of these is run.

    Returns:
        The share, and what there is to know of the times.

    Raises:
        EdgecError: a probe cannot be made or run.
    """
    item = context.plan.emits[0]
    key = digest_json(
        {
            "what": "share for latency",
            "identity": identity,
            "target": what_is_timed(context.plan.target),
            "calibration": calibration.info.content_digest if calibration else None,
            "environment": environment([item.backend]).plain(),
            "machine": host_machine().plain(),
        }
    )
    kept = context.cache.get(key)
    if kept is None:
        with contextlib.ExitStack() as workers:
            probes = _Probes(context, spec, model, calibration, samples, workers)
            share = search_share(probes.cost, 1 - spec.amount)
            kept = {"share": share, "cost": probes.costs.get(share, 1.0)}
        context.cache.keep(key, kept)
    return kept["share"], _coverage(context, spec, kept["cost"])


def what_is_timed(target: Target) -> dict[str, Any]:
    """What of a target its probes follow from, besides `Target.prune`; targets that share it share what was kept."""
    return {
        "device": target.device.model_dump(mode="json", exclude={"description", "sources"}),
        "precision": target.precision,
        "emit": target.emit[0].model_dump(mode="json"),
        "quantize": target.quantize.model_dump(mode="json", exclude={"fallback"}),
        "bench": target.bench.model_dump(mode="json"),
    }


def _coverage(context: BuildContext, spec: PruneSpec, cost: float) -> tuple[Coverage, ...]:
    device, subject = context.plan.target.device, "prune.goal"
    coverage = []
    if abs(cost - (1 - spec.amount)) > NEAR:
        reason = f"untrained probes came no nearer than {cost:.2f} of the unpruned latency, {1 - spec.amount:.2f} asked"
        coverage.append(Coverage(subject=subject, state="not reached", reason=reason))
    if not matches(device, host_machine()):
        reason = f"times were taken on this machine, which is not like {device.name}"
        coverage.append(Coverage(subject=subject, state="measured elsewhere", reason=reason))
    return tuple(coverage)


class _Probes:
    """Pruned models as artifacts, timed beside the unpruned one."""

    def __init__(
        self,
        context: BuildContext,
        spec: PruneSpec,
        model: FloatModel,
        calibration: Spool | None,
        samples: Spool,
        workers: contextlib.ExitStack,
    ) -> None:
        self._context, self._spec, self._samples, self._calibration = context, spec, samples, calibration
        self._folder = workers.enter_context(private_folder(context.scratch, "latency-"))
        self.costs: dict[float, float] = {}
        """Latency in parts of the unpruned model's, by share."""
        store.save(model, self._folder / "whole")
        options = CompilerOptions(
            target=context.plan.target,
            emit=0,
            calibration=calibration.folder if calibration else None,
            work=self._folder / "work",
            seed=context.plan.project.build.seed,
            threads=context.threads,
        )
        options.work.mkdir()
        self._pruner, self._compiler, self._timer = (
            workers.enter_context(Worker(log=context.log, what="latency probes", threads=count, imports=WITH_TORCH))
            for count in (context.threads, context.threads, context.plan.target.bench.threads)
        )
        self._compiler.create(COMPILER, options)
        self._twin = self._compiled(model, "unpruned")

    def cost(self, share: float) -> float:
        """Latency without `share` of the channels, in parts of the unpruned model's."""
        context, bench = self._context, self._context.plan.target.bench
        context.progress(f"prune: time it without {share:.0%} of the channels")
        one = self._compiled(self._pruned(share), f"without-{share:g}")
        speed = self._timer.call(
            "edgec.verify.speed:time_artifacts",
            TimingRequest(
                artifacts=tuple(ArtifactFile(artifact=item, file=file) for item, file in (one, self._twin)),
                runtime=context.plan.emits[0].runtimes[0].name,
                spool=self._samples.folder,
                threads=bench.threads,
                warmup=bench.warmup,
                runs=bench.runs or 100,
            ),
            TimingAnswer,
        ).value.speed
        if speed is None:
            raise PassError("the unpruned artifact cannot be timed", where="prune.goal", hint='goal = "macs"')
        self.costs[share] = 1 / speed.ratio
        return self.costs[share]

    def _pruned(self, share: float) -> FloatModel:
        importance = "l1" if self._spec.importance in GRADIENT_IMPORTANCES else self._spec.importance
        spec = self._spec.model_copy(
            update={"importance": importance, "sparsity": 0.0, "pattern": "unstructured", "without_training": True}
        )
        request = PruneRequest(
            model=self._folder / "whole",
            spec=spec,
            share=share,
            out=self._folder / "pruned",
            checkpoints=self._folder,
            root=self._context.root,
            may_stay_whole=self._spec.sparsity > 0,
            seed=self._context.plan.project.build.seed,
            threads=self._context.threads,
        )
        self._pruner.call("edgec.prune.task:prune_model", request, PruneAnswer)
        return store.load(self._folder / "pruned")

    def _compiled(self, model: FloatModel, name: str) -> tuple[Artifact, Path]:
        """The primary artifact, and its file."""
        plan, folder = self._context.plan, self._folder / name
        context = PassContext(
            plan.target, self._folder, self._calibration, plan.project.build.seed, self._context.threads
        )
        with captured(self._context.log):
            folded, _ = run_passes(plan.after_pruning, model, context, store.fingerprint)
            store.save(folded, folder / "model")
        request = CompileRequest(
            model=folder / "model", recipe=first_recipe(plan.target), precision=plan.target.precision, out=folder
        )
        artifact = self._compiler.ask("compile", request, CompileAnswer).value.artifact
        return artifact, folder / artifact.file
