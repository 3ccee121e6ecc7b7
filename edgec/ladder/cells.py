"""What recipes came out as, kept between runs: the key says all that a result depends on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.backends.registry import package_version
from edgec.dataset.spool import Spool
from edgec.frozen import digest_json
from edgec.machine import Machine
from edgec.passes.contract import PassRecord
from edgec.plan.plan import PlannedEmit
from edgec.quant.recipe import Recipe
from edgec.storage.cache import Cache, code_digest
from edgec.target.spec import Target

COMMON_PACKAGES = ("torch", "numpy", "torch-pruning")


@dataclass(frozen=True)
class Cells:
    """Results of one artifact.

    Args:
        cache: where they are kept.
        identity: digest of all but recipe and samples, see `identify`.
    """

    cache: Cache
    identity: str

    def kept(
        self,
        what: str,
        recipe: Recipe,
        compute: Callable[[], Any],
        *,
        samples: tuple[str, Sequence[int]] | None = None,
        **more: Any,
    ) -> Any:
        """The JSON value that `compute` gives, from an earlier run where there was one.

        Args:
            what: kind of result.
            recipe: what it is the result of. Of trained models nothing is kept: training is no part of the key.
            compute: makes it; what it raises is not kept.
            samples: content digest of a spool, and the samples of it that were run.
            more: whatever else the result depends on.
        """
        if recipe.train:
            return compute()
        key = digest_json(
            {
                "what": what,
                "identity": self.identity,
                "recipe": recipe.model_dump(mode="json"),
                "samples": [samples[0], list(samples[1])] if samples else None,
                **more,
            }
        )
        value = self.cache.get(key)
        if value is None:
            value = compute()
            self.cache.put(key, value)
        return value


def identify(
    target: Target,
    item: PlannedEmit,
    portable: Sequence[PassRecord],
    calibration: Spool | None,
    machine: Machine,
    seed: int,
    threads: int,
) -> str:
    """Digest of everything but recipe and samples that an artifact's outputs depend on.

    That is the float model before and after the portable passes, target, artifact, calibration samples, toolchain,
    the compiler's own code, the machine, whose kernels differ in the last bits, and the number of threads, with which
    float kernels do.
    """
    module = type(item.backend).__module__
    packages = (*COMMON_PACKAGES, *(package.distribution for package in item.backend.packages))
    return digest_json(
        {
            "threads": threads,
            "model": [portable[0].before, portable[-1].after],
            "target": target.digest(),
            "emit": item.emit.model_dump(mode="json"),
            "runtime": item.runtimes[0].name,
            "calibration": calibration.info.content_digest if calibration else None,
            "toolchain": {name: package_version(name) for name in packages} | {"python": platform.python_version()},
            "code": [code_digest("edgec"), code_digest(module.rpartition(".")[0] or module)],
            "machine": machine.model_dump(mode="json"),
            "capability": os.environ.get("ATEN_CPU_CAPABILITY", ""),
            "seed": seed,
        }
    )
