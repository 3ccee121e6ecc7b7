"""Runs passes: fingerprints measure what each changed, and what was skipped is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from edgec.errors import EdgecError, PassError
from edgec.passes.contract import M, Pass, PassContext, PassRecord, PassResult, options_of
from edgec.passes.coverage import Coverage


def run_passes(
    passes: Sequence[Pass[M]],
    model: M,
    ctx: PassContext,
    fingerprint: Callable[[M], str],
    on_progress: Callable[[str], None] = lambda name: None,
) -> tuple[M, tuple[PassRecord, ...]]:
    """Run `passes` in order, each on the result of the one before.

    An optional pass never fails the build: what it cannot do is recorded, as for one that does not apply, and the
    model stays as it is.

    Args:
        passes: the pipeline.
        model: what it begins with; left untouched.
        ctx: what passes may know.
        fingerprint: digest of a model (hex).
        on_progress: called with the name of each pass that begins.

    Raises:
        EdgecError: what a pass raised.
        PassError: a pass failed unexpectedly, changed its input, or did not keep its promise.
    """
    records: list[PassRecord] = []
    digest = fingerprint(model)
    for step in passes:
        on_progress(step.name)
        began = time.perf_counter()
        if reason := step.requires(model, ctx):
            records.append(_skipped(step, reason, digest, time.perf_counter() - began))
            continue
        result, failure = None, ""
        try:
            result = _run(step, model, ctx)
        except PassError as error:
            if not step.optional:
                raise
            failure = error.what
        if fingerprint(model) != digest:
            raise PassError("the pass changed its input model", where=step.name, hint="this is a defect of the pass")
        if result is None:
            records.append(_skipped(step, failure, digest, time.perf_counter() - began))
            continue
        after = fingerprint(result.model)
        records.append(
            PassRecord(
                name=step.name,
                options=options_of(step),
                state="changed" if after != digest else "unchanged",
                summary=result.summary,
                seconds=time.perf_counter() - began,
                before=digest[:16],
                after=after[:16],
                coverage=tuple(result.coverage),
            )
        )
        model, digest = result.model, after
    return model, tuple(records)


def _run(step: Pass[M], model: M, ctx: PassContext) -> PassResult[M]:
    try:
        result = step.run(model, ctx)
        broken = step.ensures(result.model, ctx)
    except EdgecError:
        raise
    except Exception as exc:
        reason = (str(exc).strip().splitlines() or ["no message"])[0]
        raise PassError(f"it failed: {type(exc).__name__}: {reason}", where=step.name) from exc
    if broken:
        raise PassError(f"the pass did not keep its promise: {broken}", where=step.name)
    return result


def _skipped(step: Pass[M], reason: str, digest: str, seconds: float) -> PassRecord:
    return PassRecord(
        name=step.name,
        options=options_of(step),
        state="skipped",
        summary=reason,
        seconds=seconds,
        before=digest[:16],
        after=digest[:16],
        coverage=(Coverage(subject=step.name, state="skipped", reason=reason),),
    )
