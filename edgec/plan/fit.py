"""Whether a target asks its backends for what they can do."""

from __future__ import annotations

from edgec.backends.registry import backend_names, get_backend
from edgec.errors import TargetError
from edgec.target.load import ResolvedTarget
from edgec.toml_source import suggest


def check_possible(resolved: ResolvedTarget) -> None:
    """Check every ``emit`` of a target against its backend; imports no framework.

    Raises:
        TargetError: there is no such backend or runtime, or the backend cannot serve this target.
    """
    target = resolved.target
    for index, emit in enumerate(target.emit):
        place = resolved.origin(f"emit.{index}.backend")
        if emit.backend not in backend_names():
            hint = suggest(emit.backend, backend_names()) or f"backends: {', '.join(backend_names())}"
            raise TargetError(f'emit.{index}.backend: no backend is called "{emit.backend}"', where=place, hint=hint)
        backend = get_backend(emit.backend)
        if reasons := backend.reasons_against(target, emit):
            raise TargetError(f"emit.{index}: {emit.backend}: {'; '.join(reasons)}", where=place)
        known = [runtime.name for runtime in backend.runtimes(target, emit)]
        if emit.runtimes == ():
            hint = f"leave it out for all of {', '.join(known)}"
            raise TargetError(f"emit.{index}.runtimes: empty: nothing would be verified", where=place, hint=hint)
        for name in emit.runtimes or ():
            if name not in known:
                hint = suggest(name, known) or f"runtimes: {', '.join(known)}"
                raise TargetError(f'emit.{index}.runtimes: no runtime is called "{name}"', where=place, hint=hint)
