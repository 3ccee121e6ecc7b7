"""Weights of a file for a module: which of the file's tensors they are, and by which names.

Weights are often saved under other names than the model has: in a dict beside the optimizer's state, or with the prefix
of a wrapper in training. Tensors are matched by names and shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from edgec.errors import ModelError
from edgec.model.checkpoint import read_weights
from edgec.model.plain import is_parametrized, remove_parametrizations

State = Mapping[str, torch.Tensor]

_PLAIN_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
"""Where checkpoints hold the weights themselves, and not a moving average of them."""
_PLAIN_PREFIXES = ("", "model.", "module.", "net.", "network.", "_orig_mod.", "module._orig_mod.", "model._orig_mod.")
_TRAINING_PARTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_ddp_wrapped_module")
"""Parts of names that wrappers put before a submodule's."""
_COUNTER = "num_batches_tracked"
"""A buffer of BatchNorm that inference does not read; old files lack it."""
_DEPTH = 3
"""Levels of dicts in a checkpoint that are looked into."""
_SHOWN = 6


@dataclass(frozen=True)
class _Match:
    """Weights by the model's names, and how they were found."""

    state: State
    problems: tuple[str, ...]
    matched: int
    key: str = ""
    """Where in the file, dotted; empty for the file itself."""
    prefix: str = ""
    """Taken off the file's names."""
    notes: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[int, int, int]:
        """The order of preference among those that fit: plain weights before averages of them."""
        last = self.key.rpartition(".")[2]
        by_key = 0 if not last else 1 + _PLAIN_KEYS.index(last) if last in _PLAIN_KEYS else 99
        by_prefix = _PLAIN_PREFIXES.index(self.prefix) if self.prefix in _PLAIN_PREFIXES else 99
        return by_key, by_prefix, len(self.prefix)


def load_weights(module: torch.nn.Module, path: Path, entry: str) -> tuple[str, ...]:
    """Load the weights of the file `path` into `module`; gives notes on what was assumed.

    Args:
        module: lazy layers take their shapes from the file.
        path: a ``torch.save`` file or ``.safetensors``.
        entry: name of the module, for messages.

    Raises:
        UntrustedModelError: the file holds more than tensors and plain containers.
        ModelError: nothing in it fits the module.
    """
    states = list(_states(read_weights(path)))
    if not states:
        raise ModelError(
            "no weights in it: it holds no dict of names to tensors",
            where=path.name,
            hint="save them: torch.save(model.state_dict(), path)",
        )
    match = _best(module, states, path, entry)
    removed: tuple[str, ...] = ()
    if match.problems and is_parametrized(module):  # saved after they were removed
        removed = remove_parametrizations(module.eval())
        match = _best(module, states, path, entry)
    if not match.problems:
        try:
            module.load_state_dict(match.state, strict=False)
        except RuntimeError as exc:
            match = _Match(match.state, tuple(str(exc).splitlines()[1:]), match.matched, match.key, match.prefix)
        else:
            counters = [name for name in module.state_dict() if name.endswith(_COUNTER) and name not in match.state]
            return removed + _notes(match, path, counters)
    raise _misfit(module, match, path, entry)


def _best(module: torch.nn.Module, states: Iterable[tuple[str, State]], path: Path, entry: str) -> _Match:
    """The match that fits; the nearest one where none does.

    Raises:
        ModelError: several fit, and none of them is the plain one.
    """
    own = module.state_dict(keep_vars=True)
    matches = [match for key, state in states for match in _matches(own, key, state)]
    fitting = sorted((match for match in matches if not match.problems), key=lambda match: match.rank)
    if not fitting:
        return max(matches, key=lambda match: (match.matched, -len(match.problems)))
    first = fitting[0]
    others = [match for match in fitting[1:] if not _same(match.state, first.state)]
    if others and 99 in first.rank[:2]:
        places = ", ".join(_place(match) for match in fitting)
        raise ModelError(
            f"the weights fit {entry} more than once: {places}",
            where=path.name,
            hint="save the ones to be built alone: torch.save(model.state_dict(), path)",
        )
    unused = tuple(f"{_place(match)} of {path.name} fits too, and is not used" for match in others)
    return _Match(first.state, (), first.matched, first.key, first.prefix, (*first.notes, *unused))


def _states(value: Any, key: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, State]]:
    """Every dict in a checkpoint that has tensors by names, with the dotted key of its place."""
    if not isinstance(value, Mapping):
        return
    tensors = {str(name): item for name, item in value.items() if isinstance(item, torch.Tensor)}
    if tensors and all(isinstance(name, str) for name in value):
        yield key, tensors
    if depth:
        for name, item in value.items():
            if isinstance(name, str):
                yield from _states(item, f"{key}.{name}" if key else name, depth - 1)


def _matches(own: State, key: str, state: State) -> Iterator[_Match]:
    """The ways in which a dict of tensors may be the weights, by what is taken off its names or put before them."""
    yield _match(own, key, "", state)
    for prefix in _prefixes(own, state):
        inside = {name.removeprefix(prefix): item for name, item in state.items() if name.startswith(prefix)}
        outside = [name for name in state if not name.startswith(prefix)]
        note = (f"{len(outside)} tensors without this prefix are not used: {_some(outside)}",) if outside else ()
        yield _match(own, key, prefix, inside, note)
    bare = {_without_parts(name): item for name, item in state.items()}
    if len(bare) == len(state) and bare.keys() != state.keys():
        parts = sorted({part for name in state for part in name.split(".") if part in _TRAINING_PARTS})
        prefixes = ", ".join(f'"{part}."' for part in parts)
        yield _match(own, key, "", bare, (f"{prefixes} taken off the weights' names",))
        names = {_without_parts(name): name for name in own}
        if names.keys() != own.keys():
            renamed = {names.get(name, name): item for name, item in bare.items()}
            yield _match(own, key, "", renamed, ("names were compared without the parts that wrappers add",))
    for prefix in _prefixes(state, own):
        added = {prefix + name: item for name, item in state.items()}
        yield _match(own, key, "", added, (f'prefix "{prefix}" put before the weights\' names',))


def _prefixes(own: State, state: State) -> list[str]:
    """The prefix of names of `own` in names of `state`: of all of them, or most."""
    sample = [name for name in own if not name.endswith(_COUNTER)]
    counts: dict[str, int] = {}
    for name in sample:
        for longer in state:
            if longer.endswith("." + name):
                prefix = longer[: -len(name)]
                counts[prefix] = counts.get(prefix, 0) + 1
        if len(counts) > 64:
            break
    most = max(counts.values(), default=0)
    return [prefix for prefix, count in counts.items() if count * 2 >= most]


def _without_parts(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _TRAINING_PARTS)


def _match(own: State, key: str, prefix: str, state: State, notes: tuple[str, ...] = ()) -> _Match:
    extra = [name for name in state if name not in own and name.endswith(_COUNTER)]
    state = _as_parametrized({name: item for name, item in state.items() if name not in extra}, own)
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    unknown = [name for name in state if name not in own]
    shared = [name for name in own if name in state]
    unlike = [difference for name in shared if (difference := _unlike(name, state[name], own[name]))]
    problems = [f"missing in the file: {name}" for name in missing]
    problems += [f"not in the model: {name}" for name in unknown]
    other = sorted({str(state[name].dtype) for name in shared if state[name].dtype != own[name].dtype})
    if other:
        dtypes = ", ".join(item.removeprefix("torch.") for item in other)
        notes = (*notes, f"weights in {dtypes} were converted to the model's dtypes")
    return _Match(state, tuple(problems + unlike), len(shared) - len(unlike), key, prefix, notes)


def _as_parametrized(state: State, own: State) -> State:
    """The names of weight_norm's first form (``weight_g``, ``weight_v``) as those of its parametrization."""
    renamed = {}
    for name, item in state.items():
        stem, _, part = name.rpartition("_")
        path, _, weight = stem.rpartition(".")
        new = f"{path}.parametrizations.{weight}.original{ {'g': 0, 'v': 1}.get(part) }".lstrip(".")
        renamed[new if name not in own and new in own else name] = item
    return renamed


def _unlike(name: str, given: torch.Tensor, own: torch.Tensor) -> str:
    """Why a tensor of the file cannot be this one of the model; empty when it can."""
    if given.is_quantized or (own.is_floating_point() and not given.is_floating_point()):
        return f"{name}: {str(given.dtype).removeprefix('torch.')} in the file, the model computes in float"
    if is_lazy(own) or given.shape == own.shape or (own.dim() == 0 and given.numel() == 1):
        return ""
    return f"{name}: {list(given.shape)} in the file, {list(own.shape)} in the model"


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(item, other[name]) for name, item in one.items())


def _place(match: _Match) -> str:
    at = f'"{match.key}"' if match.key else "the file itself"
    return f'{at}, prefix "{match.prefix}"' if match.prefix else at


def _notes(match: _Match, path: Path, counters: list[str]) -> tuple[str, ...]:
    notes = []
    if match.key:
        notes.append(f'weights taken from key "{match.key}" of {path.name}')
    if match.prefix:
        notes.append(f'prefix "{match.prefix}" taken off the weights\' names')
    if counters:
        notes.append(f"{path.name} lacks {len(counters)} {_COUNTER}: inference does not read them")
    return (*notes, *match.notes)


def _misfit(module: torch.nn.Module, match: _Match, path: Path, entry: str) -> ModelError:
    problems = match.problems
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    place = f' (nearest: "{match.key}")' if match.key else ""
    reason = "; ".join([*problems[:_SHOWN], *more])
    if not match.matched:
        reason = f"no name is in both: the file has {_some(match.state)}; the model has {_some(module.state_dict())}"
    return ModelError(
        f"the weights do not fit {entry}{place}: {reason}",
        where=path.name,
        hint="give the weights of this architecture, and the arguments it was trained with ([model] arguments)",
    )


def _some(names: Iterable[str]) -> str:
    given = list(names)
    return ", ".join(given[:_SHOWN]) + (f" and {len(given) - _SHOWN} more" if len(given) > _SHOWN else "")
