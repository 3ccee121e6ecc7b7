"""What libraries raise over the user's model in edgec's own process is no defect of edgec."""

from __future__ import annotations

import pytest

from edgec.errors import ModelError, UnsupportedError
from edgec.storage.workspace import model_step


def test_a_librarys_exception_is_explained_and_an_explained_one_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ModelError) as caught, model_step("load", "net.onnx"):
        raise KeyError("axes\nof Squeeze")
    assert caught.value.what.startswith("edgec cannot load this model (KeyError: ")
    assert (caught.value.where, "\n" in caught.value.what) == ("net.onnx", False)
    assert "Traceback" in capsys.readouterr().err  # which goes to the log
    with pytest.raises(UnsupportedError, match="no such op"), model_step("run", "net.onnx"):
        raise UnsupportedError("no such op")
