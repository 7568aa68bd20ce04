"""Misfire and overlap policies."""

from datetime import timedelta

import pytest

from mahavishnu.errors import ConfigurationError
from mahavishnu.model.policies import MisfireKind, MisfirePolicy, OverlapPolicy


@pytest.mark.parametrize(
    ("text", "kind", "cap"),
    [
        ("latest", MisfireKind.LATEST, None),
        ("skip", MisfireKind.SKIP, None),
        (" all ", MisfireKind.ALL, None),
        ("cap=3", MisfireKind.CAP, 3),
        ("cap = 12", MisfireKind.CAP, 12),
        (None, MisfireKind.LATEST, None),
    ],
)
def test_misfire_policies_as_written(text: str | None, kind: MisfireKind, cap: int | None) -> None:
    """Each written form is read, and printed so that it is read again."""
    policy = MisfirePolicy.parse(text)
    assert (policy.kind, policy.cap, policy.grace) == (kind, cap, timedelta(seconds=60))
    assert MisfirePolicy.parse(str(policy)) == policy


def test_a_grace_is_taken_over_or_kept() -> None:
    """A given grace replaces the policy's own; without one it stays."""
    policy = MisfirePolicy.parse("skip", grace=timedelta(minutes=5))
    assert MisfirePolicy.parse(policy) is policy
    assert MisfirePolicy.parse(policy, grace=timedelta(0)) == MisfirePolicy(kind=MisfireKind.SKIP, grace=timedelta(0))


@pytest.mark.parametrize("text", ["", "last", "cap", "cap=", "cap=0", "cap=-1", "cap=x", "cap=٣", "skip=3", 5])
def test_other_misfire_policies_are_refused(text: str) -> None:
    """What is no policy is refused with what to write."""
    with pytest.raises(ConfigurationError, match="misfire policy"):
        MisfirePolicy.parse(text)


def test_misfire_policies_that_contradict_themselves_are_refused() -> None:
    """A cap without its kind, a kind without its cap, and a negative grace cannot be made."""
    with pytest.raises(ConfigurationError, match="cap"):
        MisfirePolicy(kind=MisfireKind.CAP)
    with pytest.raises(ConfigurationError, match="cap"):
        MisfirePolicy(cap=3)
    with pytest.raises(ConfigurationError, match="negative"):
        MisfirePolicy(grace=timedelta(seconds=-1))


def test_overlap_policies() -> None:
    """The three names are read, with a hyphen too; another one names the nearest."""
    assert OverlapPolicy.parse("queue-one") is OverlapPolicy.QUEUE_ONE
    assert OverlapPolicy.parse(OverlapPolicy.ALLOW) is OverlapPolicy.ALLOW
    with pytest.raises(ConfigurationError, match="did you mean 'skip'"):
        OverlapPolicy.parse("skp")
