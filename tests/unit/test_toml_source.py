"""TOML errors name file, line and key, and suggest."""

from pathlib import Path

import pytest

from edgec.errors import ProjectError
from edgec.project.spec import Project
from edgec.toml_source import read_toml, suggest, validate


def load(tmp_path: Path, text: str) -> Project:
    path = tmp_path / "edgec.toml"
    path.write_text(text)
    source = read_toml(path, ProjectError)
    return validate(Project, source, source.values, ProjectError)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[gates]\nmax_drp = 1.0\n", 2, 'gates.max_drp: unknown key; did you mean "max_drop"?'),
        ("[gate]\nmax_drop = 1.0\n", 1, 'gate: unknown key; did you mean "gates"?'),
        ('[gates]\nmax_drop = "much"\n', 2, "gates.max_drop: wrong type"),
        ("[gates]\nmax_drop = -1.0\n", 2, "greater than or equal to 0"),
        ("[build]\nseed = 1.5\n", 2, "build.seed"),
        ('[[model.inputs]]\nname = "x"\nshape = [1, 3]\ndtype = "flaot32"\n', 4, 'did you mean "float32"?'),
        ('[[model.inputs]]\nname = "x"\n', 1, "model.inputs.0.shape: missing"),
        ("[calibration]\nsamples = 3\n", 1, "calibration.data: missing"),
    ],
)
def test_problem_is_told_with_line_and_key(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert f"edgec.toml:{line}: " in message
    assert words in message


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, "[gates]\nmax_drp = 1.0\n[build]\nsed = 1\n")
    assert len(str(caught.value).splitlines()) == 2


def test_not_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="line 2"):
        load(tmp_path, "[gates]\nmax_drop = \n")


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="no such file"):
        read_toml(tmp_path / "none.toml", ProjectError)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ProjectError, match="UTF-8"):
        read_toml(tmp_path / "binary.toml", ProjectError)


def test_whole_numbers_are_good_for_real_keys_but_text_is_not_for_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, "[gates]\nmax_drop = 1\n").gates.max_drop == 1.0
    with pytest.raises(ProjectError, match="wrong type"):
        load(tmp_path, '[build]\nseed = "1"\n')


def test_suggest_is_silent_when_nothing_is_near() -> None:
    assert suggest("rpi4-int9", ["rpi4-int8", "x86"]) == 'did you mean "rpi4-int8"?'
    assert suggest("zzz", ["rpi4-int8"]) == ""


def test_a_byte_order_mark_is_told_and_windows_line_ends_are_harmless(tmp_path: Path) -> None:
    (tmp_path / "edgec.toml").write_bytes(b"\xef\xbb\xbf[gates]\r\nmax_drop = 1\r\n")
    with pytest.raises(ProjectError, match=r"edgec\.toml:1: .*byte order mark \(BOM\)") as refused:
        read_toml(tmp_path / "edgec.toml", ProjectError)
    assert 'save it as "UTF-8"' in refused.value.hint
    (tmp_path / "edgec.toml").write_bytes(b"[gates]\r\nmax_drop = 1\r\n")
    source = read_toml(tmp_path / "edgec.toml", ProjectError)
    assert source.place_of(("gates", "max_drop")).endswith("edgec.toml:2")
