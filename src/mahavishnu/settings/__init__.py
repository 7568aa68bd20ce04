"""Typed settings: file < environment < arguments, defaults applied last."""

from mahavishnu.model.secret import Secret, redact_text, redact_url
from mahavishnu.settings.describing import Described, describe
from mahavishnu.settings.fields import Key, Origin
from mahavishnu.settings.loading import load_settings, read_provider
from mahavishnu.settings.sources import CONFIG_VARIABLE, FILE_NAME
from mahavishnu.settings.values import (
    CheckSettings,
    JobSettings,
    LoggingSettings,
    PrefectSettings,
    ProviderSettings,
    RepoSettings,
    RetentionSettings,
    SchedulerSettings,
    Settings,
    WorkerSettings,
)

__all__ = [
    "CONFIG_VARIABLE",
    "FILE_NAME",
    "CheckSettings",
    "Described",
    "JobSettings",
    "Key",
    "LoggingSettings",
    "Origin",
    "PrefectSettings",
    "ProviderSettings",
    "RepoSettings",
    "RetentionSettings",
    "SchedulerSettings",
    "Secret",
    "Settings",
    "WorkerSettings",
    "describe",
    "load_settings",
    "read_provider",
    "redact_text",
    "redact_url",
]
