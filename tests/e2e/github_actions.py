"""Running a GitHub workflow here: its ``run:`` steps for real, in order of jobs and matrix, as shell scripts.

What is not run: actions (``uses:``). Checking out is copying the repository; uploads and downloads of artifacts are
copies that lose file modes and hidden files as the real ones do; setting up Python, the cache of pip and logging in to
ghcr.io are left out (`SKIPPED`), and the Python that is found is that of the tests. Runners are no fresh machines.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .command import EDGEC, environment
from .github_expressions import Expressions, as_text

SKIPPED = {"actions/setup-python", "actions/cache", "docker/login-action"}
REPOSITORY = "Owner/Digits"


@dataclass
class JobRun:
    """How a job ended."""

    result: str
    log: str
    summary: str
    outputs: dict[str, str]
    workspace: Path


@dataclass
class Event:
    """What starts a run, and the repository's settings."""

    ref: str
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    from_repository: str = ""
    """That a pull request comes from; empty for a push."""


@dataclass
class WorkflowRun:
    """A run of a whole workflow on one commit."""

    repository: Path
    folder: Path
    """Where the run keeps everything."""
    event: Event
    left_out: frozenset[str] = frozenset()
    """Names of steps that are not run."""
    jobs: dict[str, JobRun] = field(default_factory=dict)
    """By name; those of a matrix as ``build (target)``."""
    skipped_actions: set[str] = field(default_factory=set)

    def run(self) -> WorkflowRun:
        """Run all jobs; those that are not to run are not in `jobs`."""
        file = self.repository / ".github/workflows/edgec.yml"
        workflow = yaml.safe_load(file.read_text())
        for name, job in workflow["jobs"].items():
            needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
            before = {need: [run for key, run in self.jobs.items() if key.split(" ")[0] == need] for need in needs}
            failed = any(not runs or any(run.result != "success" for run in runs) for runs in before.values())
            contexts = self._contexts() | {
                "needs": {need: {"outputs": runs[0].outputs} for need, runs in before.items() if runs}
            }
            expressions = Expressions(contexts, failed=failed, workspace=self.repository)
            if not expressions.condition(job.get("if")):
                continue
            matrix = job.get("strategy", {}).get("matrix", {})
            axes = expressions.expand(matrix) if matrix else {}
            for values in itertools.product(*axes.values()):
                point = dict(zip(axes, values, strict=True))
                key = f"{name} ({', '.join(values)})" if point else name
                self.jobs[key] = self._job(workflow, job, key, contexts | {"matrix": point})
        return self

    def artifact(self, name: str) -> set[str]:
        """Files of an uploaded artifact."""
        root = self.folder / "artifacts" / name
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def _contexts(self) -> dict[str, Any]:
        github = {
            "ref": self.event.ref,
            "event_name": "pull_request" if self.event.from_repository else "push",
            "event": {"pull_request": {"head": {"repo": {"full_name": self.event.from_repository}}}},
            "repository": REPOSITORY,
            "actor": "somebody",
            "token": "ghs_not_to_be_used_here",
            "server_url": "https://github.com",
            "workflow_ref": f"{REPOSITORY}/.github/workflows/edgec.yml@{self.event.ref}",
        }
        return {"github": github, "vars": self.event.variables, "secrets": self.event.secrets}

    def _job(self, workflow: dict[str, Any], job: dict[str, Any], key: str, contexts: dict[str, Any]) -> JobRun:
        base = self.folder / key.replace(" ", "-").strip("()")
        workspace, temp = base / "work", base / "temp"
        workspace.mkdir(parents=True)
        temp.mkdir()
        files = {"GITHUB_OUTPUT": base / "output", "GITHUB_STEP_SUMMARY": base / "summary"}
        for file in files.values():
            file.touch()
        own = {
            "GITHUB_WORKSPACE": workspace,
            "RUNNER_TEMP": temp,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_REF_NAME": self.event.ref.split("/", 2)[2],
            **files,
        }
        contexts = contexts | {"runner": {"os": "Linux", "temp": str(temp)}, "steps": {}}
        failed, log = False, ""
        for step in job["steps"]:
            env: dict[str, str] = {}
            expressions = Expressions(contexts | {"env": env}, failed=failed, workspace=workspace)
            for scope in (workflow, job, step):
                env |= {name: as_text(expressions.expand(value)) for name, value in scope.get("env", {}).items()}
            if step.get("name") in self.left_out or not expressions.condition(step.get("if")):
                continue
            if "uses" in step:
                given = {name: expressions.expand(value) for name, value in step.get("with", {}).items()}
                self._action(step["uses"], given, workspace)
                continue
            folder = workspace / workflow["defaults"]["run"]["working-directory"]
            done = _shell(
                expressions.expand(step["run"]), folder, {name: str(value) for name, value in own.items()} | env
            )
            log += f"--- {step['name']}\n{done.stdout}{done.stderr}"
            failed = failed or done.returncode != 0
            if "id" in step:
                lines = files["GITHUB_OUTPUT"].read_text().splitlines()
                contexts["steps"][step["id"]] = {"outputs": dict(line.split("=", 1) for line in lines)}
        expressions = Expressions(contexts, failed=failed, workspace=workspace)
        outputs = {} if failed else {name: expressions.expand(value) for name, value in job.get("outputs", {}).items()}
        summary = files["GITHUB_STEP_SUMMARY"].read_text()
        return JobRun("failure" if failed else "success", log, summary, outputs, workspace)

    def _action(self, uses: str, given: dict[str, Any], workspace: Path) -> None:
        action = uses.partition("@")[0]
        if action == "actions/checkout":
            shutil.copytree(self.repository, workspace, dirs_exist_ok=True)
        elif action == "actions/upload-artifact":
            self._upload(given, workspace)
        elif action == "actions/download-artifact":
            assert given.keys() == {"pattern", "path"}, given
            for artifact in (self.folder / "artifacts").glob(given["pattern"]):
                shutil.copytree(artifact, Path(given["path"]) / artifact.name)
        else:
            assert action in SKIPPED, f"what does {uses} do?"
            self.skipped_actions.add(action)

    def _upload(self, given: dict[str, Any], workspace: Path) -> None:
        """As @actions/artifact: below what all files have in common, without modes, without hidden files."""
        assert given["if-no-files-found"] == "ignore"
        files = [
            workspace / line
            for line in given["path"].split()
            if (workspace / line).is_file()
            and (given.get("include-hidden-files") or not any(part.startswith(".") for part in Path(line).parts))
        ]
        if not files:
            return
        common = Path(os.path.commonpath([file.parent for file in files]))
        for file in files:
            copy = self.folder / "artifacts" / given["name"] / file.relative_to(common)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())


def _shell(script: str, folder: Path, own: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As GitHub's ``shell: bash``; pip may not fetch anything."""
    path = f"{EDGEC.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder, env={**environment(), **own, "PATH": path, "PIP_NO_INDEX": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
