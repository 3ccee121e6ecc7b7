"""Which ops stay in float in every backend, on graphs written down as words."""

from __future__ import annotations

import pytest

from edgec.backends.float_regions import Op, Role, beside, front_end, post_processing

ROLES: dict[str, Role] = {
    "conv": "product", "mean": "mean", "relu": "activation", "softmax": "softmax", "reshape": "move", "cat": "join",
    "resize": "sampling", "bias": "bias", "add": "arithmetic", "scores": "product", "square": "power",
    "log": "logarithm",
}  # fmt: skip


def graph(text: str) -> list[Op]:
    """``conv1 x; add x conv1``: an op a clause, its inputs after its name, its output called as it is."""
    ops = []
    for clause in text.split("; "):
        name, *inputs = clause.split()
        ops.append(Op(name, ROLES.get(name.rstrip("0123456789"), "other"), tuple(inputs), (name,)))
    return ops


@pytest.mark.parametrize(
    ("text", "outputs", "expected"),
    [
        ("conv1 x; relu1 conv1; conv2 relu1", "conv2", ""),
        ("conv1 x; softmax1 conv1", "softmax1", "softmax1"),
        ("conv1 x; relu1 conv1", "relu1", ""),
        ("conv1 x; relu1 conv1; mul relu1", "mul", "mul"),
        ("conv1 x; reshape1 conv1", "reshape1", ""),
        ("conv1 x; reshape1 conv1; exp reshape1; reshape2 exp", "reshape2", "exp reshape2"),
        ("conv1 x; resize1 conv1; sigmoid resize1", "sigmoid", "sigmoid"),
        ("conv1 x; add conv1 x; conv2 add; norm conv2 add", "norm", "norm"),
        ("conv1 x; sigmoid conv1; conv2 sigmoid", "sigmoid conv2", ""),
        ("conv1 x; conv2 x; sigmoid conv2; cat conv1 sigmoid", "cat", "sigmoid cat"),
        (
            "conv1 x; softmax1 conv1; reshape1 softmax1; mean1 reshape1; cat mean1 x",
            "cat",
            "softmax1 reshape1 mean1 cat",
        ),
        ("conv1 x; softmax1 conv1; conv2 softmax1", "conv2", ""),
        ("conv1 x; mean1 conv1", "mean1", ""),
        ("conv1 x; cat conv1 x; relu1 cat", "relu1", ""),
        ("conv1 x; cat conv1 x; relu1 cat; exp relu1", "cat exp", "cat relu1 exp"),
        ("conv1 x; softmax1 conv1; mean2 softmax1; relu1 conv2; conv3 relu1", "conv3", ""),
        ("conv1 x; exp x; mul exp", "conv1", ""),
        ("exp x; mul exp", "mul", ""),
    ],
)
def test_ops_after_the_last_products(text: str, outputs: str, expected: str) -> None:
    assert post_processing(graph(text), outputs.split()) == tuple(expected.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conv1 x; square conv1; log square; conv2 log", "conv1 square log"),
        ("conv1 x; conv2 x; square1 conv1; square2 conv2; add1 square1 square2; mean1 add1; relu1 mean1; log1 relu1",
         "conv1 conv2 square1 square2 add1 mean1 relu1 log1"),
        ("conv1 x; bias1 conv1; square1 bias1; conv2 square1; log1 conv2", "conv1 bias1 square1 conv2 log1"),
        ("conv1 x; relu1 conv1; conv2 relu1; square1 conv2; log1 square1", ""),  # of learned features
        ("conv1 x; softmax1 conv1; square1 softmax1; log1 square1", ""),
        ("conv1 x; log1 conv1", ""),
        ("conv1 x; exp conv1; square1 exp; log1 square1", ""),
        ("square1 x; conv1 x; log1 square1; add1 log1 conv1", "square1 log1"),
    ],
)  # fmt: skip
def test_the_logarithm_of_a_spectrum_and_what_makes_it(text: str, expected: str) -> None:
    assert front_end(graph(text)) == tuple(expected.split())


@pytest.mark.parametrize(
    ("text", "chosen", "expected"),
    [
        ("conv1 x; sigmoid conv1; mul conv1 sigmoid; conv2 mul", "conv1", "sigmoid mul"),
        ("conv1 x; sigmoid conv1; mul conv1 sigmoid; conv2 mul", "conv2", "sigmoid mul"),
        ("conv1 x; add1 conv1 x; resize1 add1; conv2 resize1", "conv1", "add1 resize1"),
        ("conv1 x; conv2 conv1; cat conv1 conv2; conv3 cat", "conv1", "cat"),
        ("conv1 x; conv2 conv1; relu1 conv2; resize1 relu1", "conv1", "resize1"),
        ("conv1 x; relu1 conv1; conv2 relu1; resize1 conv2", "conv1", "relu1 resize1"),
        ("conv1 x; conv2 x; scores conv1 conv2; softmax1 scores; conv3 softmax1", "conv1", "scores softmax1"),
    ],
)
def test_what_lies_beside_a_layer_in_float_stays_float_up_to_the_next_integer_product(
    text: str, chosen: str, expected: str
) -> None:
    ops = graph(text)
    weighted = {op.name for op in ops if op.role == "product" and len(op.inputs) == 1} - {chosen}
    assert beside(ops, {chosen}, weighted) == set(expected.split())
