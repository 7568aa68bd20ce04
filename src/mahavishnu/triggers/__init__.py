"""When does it fire next? Pure rules, without a clock: intervals, dates, and Debian's cron."""

from __future__ import annotations

from mahavishnu.triggers.base import BulkTrigger, Trigger, aware_utc, due_times, fire_times
from mahavishnu.triggers.cron import CronTrigger
from mahavishnu.triggers.cron_fields import CronElement, CronExpression, CronField, FieldName
from mahavishnu.triggers.cron_strict import strict_expression
from mahavishnu.triggers.cron_words import in_words
from mahavishnu.triggers.date import DateTrigger
from mahavishnu.triggers.interval import IntervalTrigger
from mahavishnu.triggers.misfire import DuePlan, SkippedSpan, plan_due
from mahavishnu.triggers.spec import build, trigger_from_arguments, trigger_when

__all__ = [
    "BulkTrigger",
    "CronElement",
    "CronExpression",
    "CronField",
    "CronTrigger",
    "DateTrigger",
    "DuePlan",
    "FieldName",
    "IntervalTrigger",
    "SkippedSpan",
    "Trigger",
    "aware_utc",
    "build",
    "due_times",
    "fire_times",
    "in_words",
    "plan_due",
    "strict_expression",
    "trigger_from_arguments",
    "trigger_when",
]
