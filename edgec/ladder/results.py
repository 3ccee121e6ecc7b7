"""Results of recipes, kept between builds under keys of everything that they depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.dataset.spool import Spool
from edgec.frozen import digest_json
from edgec.passes.contract import PassRecord
from edgec.plan.context import BuildContext
from edgec.plan.identity import environment
from edgec.plan.plan import PlannedEmit
from edgec.quant.recipe import Recipe
from edgec.storage.cache import Answer, Cache
from edgec.storage.files import empty_folder


@dataclass(frozen=True)
class RecipeResults:
    """Kept results of one artifact.

    Args:
        cache: where they are kept.
        identity: digest of all that they depend on but recipe and samples (`identify`).
    """

    cache: Cache
    identity: str

    def get(
        self,
        what: str,
        recipe: Recipe,
        kind: type[Answer],
        compute: Callable[[], Answer],
        *,
        out: Path | None = None,
        samples: tuple[str, Sequence[int]] | None = None,
        **more: Any,
    ) -> Answer:
        """What `compute` returns, or returned in an earlier build.

        Args:
            what: kind of result.
            recipe: what it is the result of. Results of trained models are not kept: training is not part of the key.
            kind: class of the result.
            compute: makes it; its errors are not kept.
            out: folder that `compute` writes to; made anew.
            samples: content digest of a spool, and the indices of the samples that were run.
            more: whatever else the result depends on.
        """
        if recipe.train:
            if out is not None:
                empty_folder(out)
            return compute()
        inputs = {
            "identity": self.identity,
            "recipe": recipe.model_dump(mode="json"),
            "samples": [samples[0], list(samples[1])] if samples else None,
            **more,
        }
        return self.cache.step(what, inputs, kind, compute, out)


def identify(
    context: BuildContext, item: PlannedEmit, portable: Sequence[PassRecord], calibration: Spool | None
) -> str:
    """Digest of everything but recipe and samples that an artifact's outputs depend on.

    Args:
        context: target, seed, and threads, with which float kernels differ in the last bits.
        item: the artifact.
        portable: passes over the float model, with its fingerprints before and after.
        calibration: samples that ranges are collected on.
    """
    return digest_json(
        {
            "environment": environment([item.backend]).plain(),
            "threads": context.threads,
            "model": [portable[0].before, portable[-1].after],
            "target": context.plan.target.digest(),
            "emit": item.emit.model_dump(mode="json"),
            "runtime": item.runtimes[0].name,
            "calibration": calibration.info.content_digest if calibration else None,
            "seed": context.plan.project.build.seed,
        }
    )
