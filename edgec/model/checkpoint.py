"""The kinds of files that torch writes, and reading them without executing code from them."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from edgec.errors import ModelError, UntrustedModelError

if TYPE_CHECKING:
    import torch

TorchFile = Literal["pt2", "torchscript", "checkpoint"]
_ENTRY_HINT = "give the model as a Python entry, edgec build file.py:function --weights FILE"


def torch_file(path: Path) -> TorchFile | None:
    """The kind of torch file, from its content; None when it is not a file of torch."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
            return "pt2"
        if any(name.endswith("/constants.pkl") for name in names):
            return "torchscript"
        return "checkpoint" if any(name.endswith("/data.pkl") for name in names) else None
    with path.open("rb") as file:
        return "checkpoint" if file.read(1) == b"\x80" else None  # a pickle, as torch.save wrote before 1.6


def refuse(path: Path) -> NoReturn:
    """Refuse a file of weights that is given as the model.

    Raises:
        UntrustedModelError: it is a pickled module.
        ModelError: it is a state_dict.
    """
    if path.suffix.lower() != ".safetensors" and (names := unsafe_globals(path)):
        raise UntrustedModelError(
            f"this is a pickled module: loading it would execute code ({_listed(names)})",
            where=path.name,
            hint=f"{_ENTRY_HINT}: torch.save(model.state_dict(), ...)",
        )
    raise ModelError("a state_dict has no architecture; edgec build file.py:function --weights FILE", where=path.name)


def unsafe_globals(file: Any) -> list[str]:
    """Names of the classes and functions that unpickling `file` (path or stream) would call, beyond plain tensors."""
    import torch

    try:
        with torch.serialization.safe_globals(_inert()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception as exc:
        # not a zip archive: the scanner knows only those, the restricted unpickler knows both
        if hasattr(file, "seek"):
            file.seek(0)
        try:
            with torch.serialization.safe_globals(_inert()):
                torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as refused:
            refusals = [line.strip() for line in str(refused).splitlines() if "GLOBAL" in line or "global" in line]
            return refusals[:1] or ["a class that is not a plain tensor"]
        except Exception:
            raise ModelError(f"not a readable torch.save file: {exc}", where=str(getattr(file, "name", file))) from None
        return []


def read_weights(path: Path) -> Any:
    """The content of a weights file: the tensors of a ``.safetensors`` by name, or the object given to ``torch.save``.

    Raises:
        UntrustedModelError: the file holds more than tensors and plain containers.
        ModelError: it is not a weights file.
    """
    import torch

    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if torch_file(path) != "checkpoint":
        raise ModelError("not a torch.save file", where=path.name, hint="torch.save(model.state_dict(), path)")
    if names := unsafe_globals(path):
        raise UntrustedModelError(
            f"the weights file would execute code when loaded ({_listed(names)})",
            where=path.name,
            hint="save only the state_dict: torch.save(model.state_dict(), path)",
        )
    try:
        with torch.serialization.safe_globals(_inert()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        raise ModelError(f"not readable: {str(exc).splitlines()[0]}", where=path.name) from exc


def _inert() -> list[Any]:
    """Types in checkpoints, beside tensors, that are data only: NumPy numbers, and the options of a command line."""
    import argparse

    import numpy as np

    scalar = np.core.multiarray.scalar  # type: ignore[attr-defined]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = {type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")}
    return [argparse.Namespace, np.dtype, *kinds, *((scalar, name) for name in names)]


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as exc:
        raise ModelError(f"not a readable .safetensors file: {exc}", where=path.name) from exc


def check_pt2_is_data(path: Path) -> None:
    """Refuse a torch.export archive with parts that torch would unpickle freely or load as native code.

    Raises:
        UntrustedModelError: naming the parts.
    """
    import io

    with zipfile.ZipFile(path) as archive:
        bad = [name for name in archive.namelist() if "/data/aotinductor/" in name or name.endswith((".so", ".o"))]
        for name in archive.namelist():
            if name.endswith("_config.json"):
                config = json.loads(archive.read(name)).get("config", {})
                folder = name.rpartition("/")[0]
                for meta in config.values():
                    part = f"{folder}/{meta.get('path_name', '')}"
                    pickled = meta.get("use_pickle") and unsafe_globals(io.BytesIO(archive.read(part)))
                    if pickled or "custom_obj" in part or "opaque_obj" in part:
                        bad.append(part)
            elif name.endswith(".pt"):
                content = archive.read(name)
                if content and unsafe_globals(io.BytesIO(content)):
                    bad.append(name)
    if bad:
        raise UntrustedModelError(
            f"the archive has parts that execute code when loaded ({_listed(bad)})", where=path.name, hint=_ENTRY_HINT
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
