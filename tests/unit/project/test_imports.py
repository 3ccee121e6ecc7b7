"""Which neighbours a file imports is found without running it, and is what Python itself would load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgec.project.imports import neighbours

FILES = {
    "metric.py": "import json, helper\nfrom pkg.sub import thing, other\nfrom spaced import inner\n"
    "def score():\n    import late\n    from pkg import beside\n",
    "helper.py": "import numpy\nfrom metric_parts import part\nimport helper, metric\n",
    "metric_parts.py": "part = 1\n",
    "late.py": "",
    "pkg/__init__.py": "from . import beside\nfrom .deep.deeper import far\n",
    "pkg/beside.py": "",
    "pkg/sub.py": "from .other import something as thing\nother = 0\n",
    "pkg/other.py": "something = 1\n",
    "pkg/deep/__init__.py": "",
    "pkg/deep/deeper.py": "from ..above import far\n",
    "pkg/above.py": "far = 2\n",
    "spaced/inner.py": "",
    "unused.py": "import never\n",
    "never.py": "",
    "pkg/unused.py": "",
}


def write(folder: Path) -> set[str]:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {str(path.relative_to(folder)) for path in neighbours(folder / "metric.py")}


def test_what_is_found_is_what_python_loads(tmp_path: Path) -> None:
    found = write(tmp_path.resolve())
    assert found == set(FILES) - {"metric.py", "unused.py", "never.py", "pkg/unused.py"}
    code = (
        "import sys; sys.path.insert(0, '.'); import metric; import pkg, late\n"
        "import pathlib; here = pathlib.Path.cwd().resolve()\n"
        "files = [pathlib.Path(getattr(m, '__file__', None) or '/') for m in list(sys.modules.values())]\n"
        "print(*(f.resolve().relative_to(here) for f in files if f.resolve().is_relative_to(here)), sep='\\n')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) - {"metric.py"} == found


def test_what_cannot_be_parsed_or_read_imports_nothing(tmp_path: Path) -> None:
    assert neighbours(tmp_path / "gone.py") == ()
    (tmp_path / "metric.py").write_text("import broken, binary, deep\nfrom ... import broken\n")
    (tmp_path / "broken.py").write_text("import metric_parts\nif\n")
    (tmp_path / "binary.py").write_bytes(b"\0\xff")
    (tmp_path / "deep.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    (tmp_path / "metric_parts.py").touch()
    names = [path.name for path in neighbours(tmp_path / "metric.py")]
    assert names == ["binary.py", "broken.py", "deep.py"]
