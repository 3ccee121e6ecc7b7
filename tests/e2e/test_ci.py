"""The CI jobs that edgec writes, run: build, compare with what is published, sign, publish; and a regression."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from servers.registry import PASSWORD, USER, DebianRegistry

from edgec.bundle.check import check_digests
from edgec.errors import TargetError, UsageError
from edgec.publish.ci.write import render

from .command import EDGEC, edgec, environment
from .conftest import DIGITS
from .github_actions import REPOSITORY, SKIPPED, Event, WorkflowRun

TARGET = """\
device = "x86-64"
precision = "{precision}"
[[emit]]
backend = "onnxruntime"
"""
FAIL_ON = "accuracy=0.5,size=5%,latency=1000%"
"""Times of a model of microseconds, on a machine that does other things, are not to decide."""
NOISE = """\
import torch
torch.manual_seed(0)
state = torch.load("model.pt", weights_only=True)
torch.save({name: value + 0.3 * value.std() * torch.randn_like(value) if value.ndim > 1 else value
            for name, value in state.items()}, "model.pt")
"""


def spoil(repository: Path) -> None:
    """Make the float model itself worse: its artifacts then meet their gates, which judge against float."""
    subprocess.run([sys.executable, "-c", NOISE], cwd=repository, check=True)


@pytest.fixture
def repository(project: Path) -> Path:
    """A project with two small targets, a key and no bundles."""
    (project / "targets").mkdir()
    for name, precision in (("small-int8", "int8"), ("small-fp32", "fp32")):
        (project / "targets" / f"{name}.toml").write_text(TARGET.format(precision=precision))
    with (project / "edgec.toml").open("a") as file:
        file.write('\n[build]\ntargets = ["small-*"]\neffort = "fast"\nout = "bundles"\n')
    shutil.rmtree(project / "dist", ignore_errors=True)
    (project / "edgec.lock").unlink(missing_ok=True)
    assert edgec("keygen", "--out", str(project.parent / "edgec"), cwd=project).code == 0
    shutil.copy(project.parent / "edgec.pub", project)
    return project


@pytest.mark.slow
def test_github(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = DebianRegistry(tmp_path / "registry", htpasswd=True)
    try:
        github(repository, tmp_path, registry, monkeypatch)
    finally:
        registry.stop()


def github(repository: Path, tmp_path: Path, registry: DebianRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """First a tag, then a commit that is as good, then a tag that is worse."""
    written = edgec("init", "--ci", "github", cwd=repository)
    assert (written.code, written.output) == (0, ".github/workflows/edgec.yml\n"), written.errors
    assert "EDGEC_SIGNING_KEY" in written.errors
    place = f"oci://{registry.host}/models/digits"
    variables = {"EDGEC_PUBLISH": place, "EDGEC_FAIL_ON": FAIL_ON, "EDGEC_REGISTRY_USER": USER}
    reading = {"EDGEC_REGISTRY_PASSWORD": PASSWORD}
    secrets = {**reading, "EDGEC_SIGNING_KEY": (repository.parent / "edgec.key").read_text()}

    def run(name: str, ref: str, secrets: dict[str, str]) -> WorkflowRun:
        return WorkflowRun(repository, tmp_path / name, Event(ref, variables, secrets)).run()

    first = run("first", "refs/tags/v1", secrets)
    for job in first.jobs.values():
        assert job.result == "success", job.log
    assert list(first.jobs) == ["targets", "build (small-fp32)", "build (small-int8)", "publish"]
    assert json.loads(first.jobs["targets"].outputs["matrix"]) == {"target": ["small-fp32", "small-int8"]}
    assert "already satisfied: edgec" in first.jobs["targets"].log  # installed before: nothing is downloaded
    assert first.jobs["build (small-int8)"].summary.startswith("## small-int8: nothing is published yet")
    assert {Path(file).name for file in first.artifact("bundle-small-int8")} == {"small-int8.tar.gz", "report.html"}
    assert first.skipped_actions == SKIPPED - {"docker/login-action"}
    for name in ("small-fp32", "small-int8"):
        with monkeypatch.context() as environ:
            environ.setenv("EDGEC_REGISTRY_USER", USER)
            environ.setenv("EDGEC_REGISTRY_PASSWORD", PASSWORD)
            options = ("--target", name, "--key", "edgec.pub", "--out", "../pulled")
            pulled = edgec("pull", f"{place}:v1", *options, cwd=repository)
        assert pulled.code == 0, pulled.errors
        assert (tmp_path / "pulled" / name / "bench" / "run.sh").stat().st_mode & 0o111  # uploads lose that
        assert "workflows/edgec.yml@refs/tags/v1" in provenance(tmp_path / "pulled" / name)

    shutil.copy(first.jobs["build (small-int8)"].workspace / "edgec.lock", repository)  # as a developer commits it
    (repository / "edgec.toml").write_text((repository / "edgec.toml").read_text().replace("small-*", "small-int8"))
    variables["EDGEC_PACKAGE"] = "edgec"  # pip looks at fewer packages
    pull_requests(repository, tmp_path, variables)
    second = run("second", "refs/heads/main", reading)
    assert list(second.jobs) == ["targets", "build (small-int8)"]
    job = second.jobs["build (small-int8)"]
    assert job.result == "success", job.log
    assert "nothing worse than allowed (accuracy 0.5, size 5%, latency 1000%)" in job.summary
    assert "small-int8: pulled, signed with key" in job.log  # edgec.pub is in the repository

    (repository / "edgec.lock").unlink()
    spoil(repository)
    third = run("third", "refs/tags/v2", secrets)
    assert list(third.jobs) == ["targets", "build (small-int8)"]  # nothing is published
    job = third.jobs["build (small-int8)"]
    assert job.result == "failure"
    assert "**accuracy** of model.onnx in onnxruntime" in job.summary
    assert "worse than before, 0.5 allowed" in job.log
    assert third.artifact("log-small-int8") == {"build.log"}
    assert {Path(file).name for file in third.artifact("bundle-small-int8")} == {"small-int8.tar.gz", "report.html"}
    told = [job.log + job.summary for run in (first, second, third) for job in run.jobs.values()]
    assert [secret for secret in secrets.values() if any(secret.strip() in text for text in told)] == []


def pull_requests(repository: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    """Variables are there, secrets are not: from a fork, that is how it is; from the repository itself, a mistake."""
    left_out = frozenset({"Build, hold to gates", "Pack"})
    for source, result in (("Somebody/Digits", "success"), (REPOSITORY, "failure")):
        event = Event("refs/pull/1/merge", variables, {}, from_repository=source)
        done = WorkflowRun(repository, tmp_path / source, event, left_out).run()
        assert list(done.jobs) == ["targets", "build (small-int8)"]
        job = done.jobs["build (small-int8)"]
        assert job.result == result, job.log
        assert "EDGEC_REGISTRY_USER is set" not in job.log  # half of the credentials
        told = "small-int8: not compared: the published bundle needs credentials"
        assert (told in job.summary) is (source != REPOSITORY)


def test_what_a_build_job_uploads_cannot_be_written_outside_dist(tmp_path: Path) -> None:
    """One job's archive has a link that leads out, another's a file below it, in all ways to pack them."""
    import yaml

    workflow = yaml.safe_load(render("github", ".", patterns=(), names=("a", "b"), version="1"))
    (script,) = [step["run"] for step in workflow["jobs"]["publish"]["steps"] if step.get("name") == "Unpack"]
    (tmp_path / "outside").mkdir()
    (tmp_path / "evil").write_text("x")
    for name, ending in itertools.product("ab", (".tar", ".tar.gz")):
        folder = tmp_path / "bundles" / f"bundle-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / f"{name}{ending}", "w:gz" if ending.endswith("gz") else "w") as archive:
            if name == "a":
                link = tarfile.TarInfo("a")
                link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
                archive.addfile(link)
            else:
                archive.add(tmp_path / "evil", "a/evil")
    (tmp_path / "work" / "dist").mkdir(parents=True)
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path / "work",
        env={**environment(), "RUNNER_TEMP": str(tmp_path), "PATH": f"{EDGEC.parent}:/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "edgec: error: " in done.stderr
    assert "is not a regular file" in done.stderr or "this is not a bundle" in done.stderr
    assert list((tmp_path / "outside").iterdir()) == []
    assert [path.name for path in (tmp_path / "work" / "dist").iterdir()] == [".work"]


def test_targets_that_cannot_be_built_are_told_when_the_job_is_written(tmp_path: Path) -> None:
    shutil.copy(DIGITS / "edgec.toml", tmp_path)
    (tmp_path / "targets").mkdir()
    for name in ("a$(id)", "a b", "ab"):
        (tmp_path / "targets" / f"{name}.toml").write_text(TARGET.format(precision="int8"))
    for pattern in ("a*", "a b*", "a$*"):
        refused = edgec("init", "--ci", "github", "--target", pattern, cwd=tmp_path)
        assert refused.code in (TargetError.exit_code, UsageError.exit_code)
        assert not (tmp_path / ".github").exists()
    assert "is not a valid name" in edgec("init", "--ci", "github", "--target", "a*", cwd=tmp_path).errors
    assert edgec("init", "--ci", "github", "--target", "ab", cwd=tmp_path).code == 0


def provenance(bundle: Path) -> str:
    """What the signed statements of a bundle say, as text."""
    import base64

    from edgec.bundle.manifest import ATTESTATIONS

    lines = (bundle / ATTESTATIONS).read_text().splitlines()
    return "\n".join(base64.b64decode(json.loads(line)["payload"]).decode() for line in lines)


@pytest.mark.slow
def test_make(repository: Path, tmp_path: Path) -> None:
    assert edgec("init", "--ci", "make", "--target", "small-fp32", cwd=repository).code == 0

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", f"PUBLISH={tmp_path / 'published'}", f"FAIL_ON={FAIL_ON}", *arguments],
            cwd=repository, env={**environment(), "PATH": f"{EDGEC.parent}:/usr/bin:/bin"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    unsigned = make("publish")
    assert unsigned.returncode == 2
    assert "no signing key is given" in unsigned.stderr
    assert not (tmp_path / "published" / "index.json").exists()
    done = make("publish", f"KEY={tmp_path / 'edgec.key'}", "-j2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is published yet" in done.stdout
    assert "edgec build" not in done.stdout  # built by the try before

    done = make("ci", f"SUMMARY={tmp_path / 'summary.md'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing worse than allowed" in (tmp_path / "summary.md").read_text()

    spoil(repository)
    worse = make("publish", f"KEY={tmp_path / 'edgec.key'}", "LOCKED=")
    assert worse.returncode == 2
    assert "Error 35" in worse.stderr
    assert "edgec sign" not in worse.stdout


@pytest.mark.slow
def test_gitlab(repository: Path, tmp_path: Path) -> None:
    """The scripts of its jobs, run as the runner does; images, caches, rules and artifacts are not."""
    import yaml

    assert edgec("init", "--ci", "gitlab", "--target", "small-fp32", cwd=repository).code == 0
    jobs = yaml.safe_load((repository / ".gitlab-ci.yml").read_text())
    shutil.copy(tmp_path / "edgec.key", tmp_path / "key-file")
    own = {
        **jobs["variables"], "TARGET": "small-fp32", "CI_COMMIT_TAG": "v1", "CI_JOB_URL": "https://gitlab.local/job/1",
        "CI_REGISTRY": "registry.local", "CI_REGISTRY_USER": "somebody", "CI_REGISTRY_PASSWORD": "secret",
        "EDGEC_PUBLISH": (tmp_path / "published").as_uri(), "EDGEC_FAIL_ON": FAIL_ON,
        "EDGEC_SIGNING_KEY": str(tmp_path / "key-file"), "EDGEC_PACKAGE": "edgec", "PIP_NO_INDEX": "1",
        "PIP_CACHE_DIR": str(tmp_path / "pip"),
    }  # fmt: skip

    def run(job: str, **variables: str) -> subprocess.CompletedProcess[str]:
        script = "\n".join([*jobs[".edgec"]["before_script"], *jobs[job]["script"]])
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], cwd=repository,
            env={**environment(), **own, "PATH": f"{EDGEC.parent}:/usr/sbin:/usr/bin:/sbin:/bin", **variables},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    changed = run("build", EDGEC_TARGETS="small-fp32 other")
    assert changed.returncode == 1
    assert 'this file "small-fp32 other": write it anew' in changed.stdout
    built = run("build")
    assert built.returncode == 0, built.stdout + built.stderr
    assert (repository / "dist" / "small-fp32.md").read_text().startswith("## small-fp32: nothing is published yet")
    published = run("publish")
    assert published.returncode == 0, published.stdout + published.stderr
    pulled = edgec("pull", str(tmp_path / "published"), "--key", "edgec.pub", "--out", "../pulled", cwd=repository)
    assert pulled.code == 0, pulled.errors
    check_digests(tmp_path / "pulled" / "small-fp32")
