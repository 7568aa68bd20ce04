"""Tests of what a task's description accepts."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from mahavishnu.classification import VALID_VALUES, TaskCharacteristics
from mahavishnu.errors import ConfigurationError


def test_defaults_are_the_least_demanding_values():
    """A task nothing is said about is medium, internal, simple, ephemeral and local, of unknown duration."""
    assert TaskCharacteristics() == TaskCharacteristics(
        frequency="medium",
        visibility="internal",
        complexity="simple",
        durability="ephemeral",
        infrastructure="local",
        expected_duration=None,
    )


@pytest.mark.parametrize("field", list(VALID_VALUES))
@pytest.mark.parametrize("value", ["no such value", "", None, 3, ["high"]])
def test_wrong_value_names_the_field_the_value_and_the_valid_ones(field, value):
    """Whatever is not a valid value is refused with everything needed to correct it."""
    with pytest.raises(ConfigurationError) as caught:
        TaskCharacteristics(**{field: value})
    message = str(caught.value)
    assert f"{field}={value!r}" in message
    assert ", ".join(VALID_VALUES[field]) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("frequency", "hihg", "high"),
        ("visibility", "user_facing", "user-facing"),
        ("durability", "persist", "persistent"),
    ],
)
def test_near_miss_is_told_what_was_probably_meant(field, value, meant):
    """A typo gets the nearest valid value."""
    with pytest.raises(ConfigurationError, match=f"did you mean '{meant}'"):
        TaskCharacteristics(**{field: value})


@pytest.mark.parametrize("value", [timedelta(0), timedelta(seconds=-1), 300, "5m"])
def test_expected_duration_must_be_a_timedelta_above_zero(value):
    """Numbers without a unit, texts and durations that no run can have are refused."""
    with pytest.raises(ConfigurationError, match=r"expected_duration=.*timedelta"):
        TaskCharacteristics(expected_duration=value)


def test_values_cannot_be_changed_or_added():
    """A description is a value: frozen, without room for misspelt attributes, equal by content."""
    characteristics = TaskCharacteristics(frequency="low")
    with pytest.raises(dataclasses.FrozenInstanceError):
        characteristics.frequency = "high"
    assert not hasattr(characteristics, "__dict__")
    assert len({characteristics, TaskCharacteristics(frequency="low")}) == 1
