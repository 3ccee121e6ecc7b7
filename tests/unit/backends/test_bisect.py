"""The smallest set of names without which an attempt succeeds."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from edgec.backends.bisect import MAX_TRIES, smallest_excluded
from edgec.errors import EdgecError, PassError, StorageError

NAMES = [f"{op}_{number}" for number in range(50) for op in ("conv", "add", "concat", "pool")]


def op_of(name: str) -> str:
    return name.split("_")[0]


class Toolchain:
    """Fails on any of `bad` that is not left out, and always when `hopeless`; keeps what it was asked."""

    def __init__(self, bad: Collection[str], *, hopeless: bool = False) -> None:
        self.bad, self.hopeless = bad, hopeless
        self.asked: list[frozenset[str]] = []

    def __call__(self, excluded: frozenset[str]) -> frozenset[str]:
        self.asked.append(excluded)
        if self.hopeless:
            raise PassError("no such file")
        for name in NAMES:
            if name in self.bad and name not in excluded:
                raise PassError(f"{op_of(name)} is ambiguous")
        return excluded


def test_nothing_is_left_out_of_what_works() -> None:
    found = smallest_excluded(NAMES, Toolchain(()))
    assert (found.result, found.reasons, found.tries) == (frozenset(), {}, 1)


@pytest.mark.parametrize("bad", [NAMES[0], NAMES[77], NAMES[-1]])
def test_one_name_is_found_by_halving(bad: str) -> None:
    found = smallest_excluded(NAMES, Toolchain({bad}))
    assert found.reasons == {bad: f"{op_of(bad)} is ambiguous"}
    assert found.result == {bad}
    assert found.tries <= 12


@pytest.mark.parametrize("bad", [{"add_3", "add_4", "pool_0", "conv_49"}, {*NAMES[:3]}, {*NAMES[-2:]}])
def test_the_smallest_set_is_found(bad: set[str]) -> None:
    found = smallest_excluded(NAMES, Toolchain(bad))
    assert set(found.reasons) == bad == found.result
    assert all(reason == f"{op_of(name)} is ambiguous" for name, reason in found.reasons.items())


def test_names_of_one_signature_are_left_out_together() -> None:
    bad = {name for name in NAMES if op_of(name) in ("concat", "pool")}
    toolchain = Toolchain(bad)
    found = smallest_excluded(NAMES, toolchain, signature=op_of)
    assert set(found.reasons) == bad
    assert found.tries == len(toolchain.asked) <= 22


def test_likes_that_work_are_taken_back() -> None:
    found = smallest_excluded(NAMES, Toolchain({"concat_0", "pool_20"}), signature=op_of)
    assert set(found.reasons) == {"concat_0", "pool_20"} == found.result


def test_a_signature_that_works_elsewhere_is_no_reason_against_it() -> None:
    toolchain = Toolchain({"concat_10"})
    found = smallest_excluded(NAMES, toolchain, signature=op_of)
    assert set(found.reasons) == {"concat_10"}
    assert not any("concat_11" in asked and "pool_11" not in asked for asked in toolchain.asked)


def test_names_in_the_error_are_tried_first() -> None:
    def attempt(excluded: frozenset[str]) -> frozenset[str]:
        for name in ("pool_3", "pool_40", "add_7"):
            if name not in excluded:
                raise PassError(f'no kernel for node "{name}", read by conv_1')
        return excluded

    found = smallest_excluded(NAMES, attempt)
    assert found.reasons == {
        name: f'no kernel for node "{name}", read by conv_1' for name in ("pool_3", "pool_40", "add_7")
    }
    assert found.tries < 16


def test_the_search_is_bounded_and_its_result_still_works() -> None:
    toolchain = Toolchain({*NAMES[::2]})
    found = smallest_excluded(NAMES, toolchain, max_tries=20)
    assert found.tries == len(toolchain.asked) == 20
    assert found.result == set(found.reasons) > set(toolchain.bad)
    assert "after 20 attempts: conv is ambiguous" in found.reasons["pool_49"]
    assert found.tries < MAX_TRIES


def test_names_that_fail_only_together_lose_one() -> None:
    def attempt(excluded: frozenset[str]) -> frozenset[str]:
        if not excluded & {"conv_7", "add_30"}:
            raise PassError("inputs of different quantization")
        return excluded

    found = smallest_excluded(NAMES, attempt)
    assert set(found.reasons) == {"add_30"} == found.result


@pytest.mark.parametrize("names", [[], NAMES])
def test_what_fails_without_all_names_fails(names: list[str]) -> None:
    with pytest.raises(EdgecError, match="no such file"):
        smallest_excluded(names, Toolchain((), hopeless=True))


def test_a_full_disk_is_no_fault_of_an_op() -> None:
    asked = []

    def attempt(excluded: frozenset[str]) -> None:
        asked.append(excluded)
        raise StorageError("no space left on device")

    with pytest.raises(StorageError):
        smallest_excluded(NAMES, attempt)
    assert len(asked) == 1


def test_other_errors_are_not_taken_for_a_refusal() -> None:
    def broken(excluded: frozenset[str]) -> None:
        raise AttributeError("typo")

    attempt: Callable[[frozenset[str]], None] = broken
    with pytest.raises(AttributeError, match="typo"):
        smallest_excluded(NAMES, attempt)
