"""From stored definitions and from what users type to triggers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

from mahavishnu.errors import InvalidTriggerError, nearest
from mahavishnu.model.trigger import TriggerKind
from mahavishnu.triggers.base import aware_utc
from mahavishnu.triggers.cron import CronTrigger
from mahavishnu.triggers.cron_fields import CronExpression
from mahavishnu.triggers.date import DateTrigger
from mahavishnu.triggers.interval import IntervalTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

    from mahavishnu.model.trigger import TriggerSpec
    from mahavishnu.triggers.base import Trigger

__all__ = ["build", "trigger_from_arguments", "trigger_when"]


def build(spec: TriggerSpec) -> Trigger:
    """Return the trigger a spec defines; equal to the one whose `spec()` it is.

    Args:
        spec: As stored. A cron expression in it is read as cron reads it, since it was judged when it was made.

    Raises:
        InvalidTriggerError: A field is missing, unknown, or cannot be used.
    """
    match spec.kind:
        case TriggerKind.CRON:
            fields = _fields(spec, required=("expression",), optional=("timezone",))
            timezone = fields.get("timezone")
            expression = CronExpression.parse(str(fields["expression"]))
            return CronTrigger(expression, timezone=None if timezone is None else str(timezone))
        case TriggerKind.DATE:
            fields = _fields(spec, required=("run_date",))
            return DateTrigger(str(fields["run_date"]))
        case TriggerKind.INTERVAL:
            fields = _fields(spec, required=("interval_us", "start"), optional=("end",))
            end = fields.get("end")
            interval = _microseconds(fields["interval_us"])
            return IntervalTrigger.every(
                interval, anchor=aware_utc(str(fields["start"]), "start"), end=None if end is None else str(end)
            )


def trigger_from_arguments(kind: str, arguments: Mapping[str, object], *, anchor: datetime) -> Trigger:
    """Return the trigger of `trigger_type=` and its keyword arguments.

    Args:
        kind: `interval`, `cron` or `date`.
        arguments: For an interval `weeks` to `milliseconds`, `start`, `end`; for cron either `expression` or
            `minute`, `hour`, `day`, `month`, `day_of_week`, and `timezone`; for a date `run_date`.
        anchor: From where an interval without `start` is counted, usually the current instant.

    Raises:
        InvalidTriggerError: The kind or an argument is unknown, missing, or cannot be used.
    """
    match kind:
        case TriggerKind.INTERVAL:
            return IntervalTrigger.from_fields(arguments, anchor=anchor)
        case TriggerKind.CRON:
            return _cron(dict(arguments))
        case TriggerKind.DATE:
            return _date(arguments)
        case _:
            hint = nearest(str(kind), [k.value for k in TriggerKind])
            raise InvalidTriggerError(str(kind), f"there is no such trigger type{hint}")


def trigger_when(
    *,
    cron: str | None = None,
    every: timedelta | None = None,
    at: datetime | str | None = None,
    anchor: datetime,
    timezone: str | tzinfo | None = None,
) -> Trigger:
    """Return the trigger of `cron=`, `every=` or `at=`, exactly one of which is given.

    Args:
        cron: A cron expression, read strictly.
        every: An interval, counted from `anchor`.
        at: A single instant, aware.
        anchor: Usually the current instant.
        timezone: The zone of `cron`; `None` (default): this machine's. It goes with `cron` only.

    Raises:
        InvalidTriggerError: None or several are given, or one cannot be used.
    """
    given = [f"{name}={value!r}" for name, value in (("cron", cron), ("every", every), ("at", at)) if value is not None]
    if len(given) != 1:
        problem = "several triggers are given" if given else "no trigger is given"
        raise InvalidTriggerError(", ".join(given), problem, "give exactly one of cron=, every=, at=")
    if timezone is not None and cron is None:
        raise InvalidTriggerError(given[0], "timezone= goes with cron= only", "leave it out; instants carry their own")
    if cron is not None:
        return CronTrigger(cron, timezone=timezone)
    if every is not None:
        return IntervalTrigger.every(every, anchor=anchor)
    assert at is not None  # exactly one is given
    return DateTrigger(at)


def _cron(arguments: dict[str, object]) -> CronTrigger:
    timezone = cast("str | tzinfo | None", arguments.pop("timezone", None))
    if "expression" not in arguments:
        return CronTrigger.from_fields(timezone=timezone, **cast("dict[str, str | int]", arguments))
    expression = arguments.pop("expression")
    if arguments:
        problem = f"expression= leaves no room for {', '.join(f'{name}=' for name in arguments)}"
        raise InvalidTriggerError(str(expression), problem, "give the expression alone, or fields alone")
    return CronTrigger(cast("str", expression), timezone=timezone)


def _date(arguments: Mapping[str, object]) -> DateTrigger:
    for name in arguments:
        if name != "run_date":
            raise InvalidTriggerError("date", f"it has no field {name!r}{nearest(name, ['run_date'])}")
    if "run_date" not in arguments:
        raise InvalidTriggerError("date", "run_date= is missing", "write run_date=datetime(…, tzinfo=UTC)")
    return DateTrigger(cast("datetime", arguments["run_date"]))


def _microseconds(count: str | float) -> timedelta:
    try:
        return timedelta(microseconds=int(count))
    except (ValueError, OverflowError):
        raise InvalidTriggerError("interval", f"interval_us={count!r} is no number of microseconds") from None


def _fields(
    spec: TriggerSpec, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, str | int | float]:
    known = (*required, *optional)
    for name in spec.fields:
        if name not in known:
            raise InvalidTriggerError(spec.kind.value, f"it has no field {name!r}{nearest(name, known)}")
    for name in required:
        if name not in spec.fields:
            raise InvalidTriggerError(spec.kind.value, f"its field {name!r} is missing", f"known: {', '.join(known)}")
    return spec.fields
