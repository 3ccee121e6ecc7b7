"""The written files against the official schemas, and against what is asked of CI files besides."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgec.publish.ci.write import KINDS, TABLE, Kind, render

CHECK = Path(sys.executable).with_name("check-jsonschema")
SCHEMAS = {
    "github": ["--builtin-schema", "vendor.github-workflows"],
    "gitlab": ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
}
"""Copies of schemastore's and GitLab's own that check-jsonschema brings along: nothing is fetched."""
SHAPES: dict[str, dict[str, Any]] = {
    "a project": {"folder": ".", "patterns": (), "names": ("rpi4-int8",)},
    "in a folder": {"folder": "models/kws_2", "patterns": ("rpi4-*", "x86-64-int8"), "names": ("rpi4-fp16", "a-b")},
}


def written(kind: Kind, shape: str = "a project") -> str:
    return render(kind, version="1.2.3", **SHAPES[shape])


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from yaml.safe_load(written("github"))["jobs"].items()


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs():
        for step in job["steps"]:
            yield f"{name}: {step.get('name', step.get('uses'))}", step


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_official_schema_holds(kind: Kind, shape: str, tmp_path: Path) -> None:
    file = tmp_path / "ci.yml"
    file.write_text(written(kind, shape))
    done = subprocess.run([CHECK, *SCHEMAS[kind], str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_check_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "ci.yml"
    file.write_text(written("github").replace("runs-on:", "runs_on:"))
    done = subprocess.run([CHECK, *SCHEMAS["github"], str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "runs_on" in done.stdout


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_placeholder_is_left(kind: Kind, shape: str) -> None:
    assert re.findall(r"@[A-Z]+@", written(kind, shape)) == []
    assert "1.2.3" in written(kind, shape) or kind == "make"


def test_targets_and_folders_are_where_they_belong() -> None:
    github = yaml.safe_load(written("github", "in a folder"))
    assert github["defaults"]["run"]["working-directory"] == "models/kws_2"
    (plan,) = [step["run"] for step in github["jobs"]["targets"]["steps"] if step.get("id") == "plan"]
    assert "edgec targets --json --target 'rpi4-*' --target x86-64-int8 >" in plan
    assert "edgec targets --json --of-build >" in written("github")
    gitlab = yaml.safe_load(written("gitlab", "in a folder"))
    assert gitlab["build"]["parallel"]["matrix"] == [{"TARGET": ["rpi4-fp16", "a-b"]}]
    assert gitlab["variables"]["EDGEC_TARGETS"] == "rpi4-fp16 a-b"
    assert "models/kws_2/packed/$TARGET.tar.gz" in gitlab["build"]["artifacts"]["paths"]


def test_names_stay_texts_in_yaml() -> None:
    """YAML 1.1 reads 1.10 as a number and on as a truth value."""
    odd: dict[str, Any] = {"folder": "1.10", "patterns": (), "names": ("on", "1e3", "0x1f"), "version": "1.2.3"}
    github, gitlab = (yaml.safe_load(render(kind, **odd)) for kind in ("github", "gitlab"))
    assert github["defaults"]["run"]["working-directory"] == "1.10"
    assert gitlab["build"]["parallel"]["matrix"] == [{"TARGET": ["on", "1e3", "0x1f"]}]
    assert gitlab["variables"]["EDGEC_TARGETS"] == "on 1e3 0x1f"
    assert all(isinstance(path, str) for path in gitlab["build"]["artifacts"]["paths"])


def test_bundles_are_built_where_the_other_steps_look_for_them() -> None:
    """Whatever [build] out of edgec.toml says, now or later."""
    (build,) = [step["run"] for name, step in steps() if name == "build: Build, hold to gates"]
    assert "--out dist" in build
    assert any("edgec build" in line and "--out dist" in line for line in gitlab_job("build")["script"])


def gitlab_job(name: str) -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(written("gitlab"))[name]
    return job


def test_the_job_with_the_key_takes_nothing_unchecked_from_those_that_run_the_projects_code() -> None:
    publish = dict(jobs())["publish"]
    assert publish["environment"] == "edgec-publish"
    assert [step for step in publish["steps"] if "cache" in step.get("uses", "")] == []
    assert "needs." not in str(publish["steps"])  # what other jobs say is no place to send secrets to
    assert "tar " not in str(publish["steps"])
    job = gitlab_job("publish")
    assert job["environment"] == {"name": "edgec-publish", "action": "prepare"}
    assert job["cache"] == []
    assert job["script"][1] == "edgec unpack packed/*.tar.gz --out dist"
    assert "environment" not in gitlab_job("build")
    for kind in ("github", "gitlab"):
        assert "edgec-publish" in " ".join(TABLE[kind].todo)


def test_actions_are_pinned_by_major_version_and_keep_no_token() -> None:
    uses = [step["uses"] for _, step in steps() if "uses" in step]
    assert uses
    assert [item for item in uses if not re.fullmatch(r"[a-z]+/[a-z-]+@v\d+", item)] == []
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 3
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_rights_are_as_few_as_can_be_and_jobs_end() -> None:
    assert yaml.safe_load(written("github"))["permissions"] == {"contents": "read"}
    rights = {name: job.get("permissions") for name, job in jobs()}
    assert rights == {
        "targets": None,
        "build": {"contents": "read", "packages": "read"},
        "publish": {"contents": "read", "packages": "write"},
    }
    assert all(job["timeout-minutes"] <= 120 for _, job in jobs())


def test_secrets_reach_a_process_by_its_environment_only() -> None:
    for name, step in steps():
        assert "${{" not in step.get("run", ""), name  # what others write never becomes a script
    with_secrets = [name for name, step in steps() if "secrets." in str(step)]
    assert with_secrets == ["build: Compare with the published bundle", "publish: Sign", "publish: Publish"]
    signing = [name for name, step in steps() if "SIGNING_KEY" in str(step.get("env"))]
    assert signing == ["publish: Sign"]


def test_scripts_are_valid_shell() -> None:
    scripts = {name: step["run"] for name, step in steps() if "run" in step}
    for job in ("build", "publish"):
        gitlab = yaml.safe_load(written("gitlab"))
        scripts[f"gitlab {job}"] = "\n".join([*gitlab[".edgec"]["before_script"], *gitlab[job]["script"]])
    for name, script in scripts.items():
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), name
