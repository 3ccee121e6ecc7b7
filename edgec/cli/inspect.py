"""`edgec inspect`: what is in a bundle, or in one artifact of it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgec.cli.echo import echo


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, or the artifact's part of it, as JSON.")
def command(path: Path, as_json: bool) -> None:
    """Show the bundle in folder PATH, or the artifact PATH of a bundle: tensors, ops by dtype, what stayed float."""
    from edgec.bundle.check import read_bundle
    from edgec.bundle.manifest import Manifest
    from edgec.errors import BundleError
    from edgec.quant.words import words

    bundle, name = (path.parent, path.name) if path.is_file() and path.name != "manifest.json" else (path, None)
    if path.name == "manifest.json":
        bundle = path.parent
    manifest: Manifest = read_bundle(bundle, as_written=as_json)
    artifacts = [item for item in manifest.artifacts if name in (None, item.artifact.file)]
    if not artifacts:
        raise BundleError(
            f"{name} is not an artifact of this bundle",
            where=str(bundle),
            hint=f"artifacts: {', '.join(item.artifact.file for item in manifest.artifacts)}",
        )
    if as_json:
        chosen = manifest.plain() if name is None else artifacts[0].plain()
        echo(json.dumps(chosen, indent=1, sort_keys=True))
        return
    if name is None:
        echo(f"{manifest.target.name}: {manifest.target.precision} for {manifest.target.device.description}")
        echo(f"  {manifest.title}, from {manifest.source.path}, edgec {manifest.edgec}, {len(manifest.files)} files")
        for line in manifest.evaluation.first_sample if manifest.evaluation else ():
            echo(f"  first evaluation sample: {line}")
    for item in artifacts:
        echo(f"{item.artifact.file}: {item.artifact.backend}, {item.size / 1024:.1f} KiB, sha256 {item.sha256}")
        if item.rungs:
            ranges = item.artifact.precision == "int8"
            rung = next((one for one in reversed(item.rungs) if one.recipe == item.recipe), item.rungs[-1])
            echo(f"  recipe {words(item.recipe, ranges=ranges)} (rung {rung.rung})")
            echo("".join(f"    {layer}: float32\n" for layer in item.recipe.float_layers), nl=False)
        for kind, tensors in (("input", item.artifact.inputs), ("output", item.artifact.outputs)):
            for tensor in tensors:
                shape = "x".join(str(size) for size in tensor.shape)
                layout = (
                    "" if tensor.permutation is None else f", float layout transposed by {list(tensor.permutation)}"
                )
                echo(f"  {kind:6} {tensor.artifact_name}: {tensor.dtype} {shape}{layout}")
        for result in (one for one in manifest.accuracy if one.artifact == item.artifact.file):
            metric = result.metric
            value = f"{metric.name} {metric.value:.2f} (float {metric.float_value:.2f})" if metric else "no metric"
            failed = f", FAILED: {result.failure}" if result.failure else ""
            echo(f"  {result.runtime} {result.runtime_version}: {value}{failed}")
            for op in result.ops:
                echo(f"    {op.count:4} {op.op} {op.dtype}{'  ' + op.reason if op.reason else ''}")
        for gate in (one for one in manifest.gates if one.artifact == item.artifact.file):
            value = "" if gate.value is None else f", here {gate.value:.4g}"
            default = " (default)" if gate.default else ""
            echo(f"  gate {gate.gate} {gate.limit:g}{default} in {gate.runtime}: {gate.state}{value}")
        for step in item.passes:
            echo(f"  pass {step.name}: {step.state}{': ' + step.summary if step.summary else ''}")
    for gap in manifest.coverage:
        echo(f"  {gap.subject}: {gap.state}: {gap.reason}")
