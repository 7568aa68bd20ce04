"""The settings as frozen values. Each field says its key, its kind and its default, and nothing repeats them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec.structs import force_setattr

from mahavishnu.model.policies import DEFAULT_GRACE, MisfirePolicy, OverlapPolicy
from mahavishnu.model.secret import MASK, Secret, is_secret_key, redact_text
from mahavishnu.settings import kinds
from mahavishnu.settings.fields import FreeTables, Items, Key, Origin, Section

if TYPE_CHECKING:
    from mahavishnu.errors import SettingError

__all__ = [
    "CheckSettings",
    "JobSettings",
    "LoggingSettings",
    "PrefectSettings",
    "ProviderSettings",
    "RepoSettings",
    "RetentionSettings",
    "SchedulerSettings",
    "Settings",
    "WorkerSettings",
]

STATE_FOLDER = ".mahavishnu"
_DAY = timedelta(days=1)
_LEVELS = ("debug", "info", "warning", "error", "critical")


class SchedulerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[scheduler]`: what holds for every schedule that does not say otherwise.

    Attributes:
        misfire: Which missed fire times still run, default `latest`; `misfire_policy` has the grace too.
        misfire_grace: How late is still on time, default 60 s (`misfire_grace_seconds`).
        overlap: What to do while the previous occurrence runs, default `skip`.
        stop_grace: How long stopping may take, default 30 s (`stop_grace_seconds`).
    """

    misfire: Annotated[MisfirePolicy, kinds.parsed(MisfirePolicy.parse, MisfirePolicy)] = MisfirePolicy()
    misfire_grace: Annotated[timedelta, Key("misfire_grace_seconds"), kinds.duration()] = DEFAULT_GRACE
    overlap: Annotated[OverlapPolicy, kinds.parsed(OverlapPolicy.parse, OverlapPolicy)] = OverlapPolicy.SKIP
    stop_grace: Annotated[timedelta, Key("stop_grace_seconds"), kinds.duration()] = timedelta(seconds=30)

    @property
    def misfire_policy(self) -> MisfirePolicy:
        """The misfire policy with the grace in it."""
        return MisfirePolicy(kind=self.misfire.kind, cap=self.misfire.cap, grace=self.misfire_grace)


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[worker]`: how durable jobs are worked on.

    Attributes:
        processes: Worker processes of one `worker` or `up`, default 1.
        concurrency: Jobs at once per process, default 100.
        threads: Threads for synchronous workflows per process, default 32.
        queues: The queues to work on, default `("default",)`.
        lease: How long a job is ours before it must be renewed, default 30 s (`lease_seconds`).
        grace: How long running jobs may take to end at stop, default 30 s (`grace_seconds`).
        max_deliveries: How often a job whose process dies is tried again before it is parked, default 5.
    """

    processes: Annotated[int, kinds.whole(at_least=1, at_most=1024)] = 1
    concurrency: Annotated[int, kinds.whole(at_least=1, at_most=100_000)] = 100
    threads: Annotated[int, kinds.whole(at_least=1, at_most=10_000)] = 32
    queues: Annotated[tuple[str, ...], kinds.names(at_least=1)] = ("default",)
    lease: Annotated[timedelta, Key("lease_seconds"), kinds.duration(at_least=1)] = timedelta(seconds=30)
    grace: Annotated[timedelta, Key("grace_seconds"), kinds.duration()] = timedelta(seconds=30)
    max_deliveries: Annotated[int, kinds.whole(at_least=1)] = 5


class JobSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[jobs]`: what holds for every job whose workflow and metadata do not say otherwise.

    Attributes:
        max_attempts: How often a job may run until it succeeds, default 3.
        timeout: How long one attempt may take; `None`, the default: no limit (`timeout_seconds`).
        max_payload_bytes: The largest encoded job, default 1,000,000.
        idempotency_window: How long an idempotency key is remembered, default a day (`idempotency_window_seconds`).
    """

    max_attempts: Annotated[int, kinds.whole(at_least=1)] = 3
    timeout: Annotated[timedelta | None, Key("timeout_seconds"), kinds.duration(zero=False)] = None
    max_payload_bytes: Annotated[int, kinds.whole(at_least=1)] = 1_000_000
    idempotency_window: Annotated[timedelta, Key("idempotency_window_seconds"), kinds.duration(zero=False)] = _DAY


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[retention]`: what the ledger forgets, and when it looks.

    Attributes:
        keep: How long finished runs and past occurrences stay, default 30 days (`keep_days`).
        keep_dead_letters: How long dead letters stay, default 90 days (`keep_dead_letters_days`).
        interval: How often old entries are removed, default every hour (`interval_seconds`).
    """

    keep: Annotated[timedelta, Key("keep_days"), kinds.duration("days", zero=False)] = _DAY * 30
    keep_dead_letters: Annotated[timedelta, Key("keep_dead_letters_days"), kinds.duration("days", zero=False)] = (
        _DAY * 90
    )
    interval: Annotated[timedelta, Key("interval_seconds"), kinds.duration(at_least=1)] = timedelta(hours=1)


class PrefectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[prefect]`: the engine for watched work.

    Attributes:
        enabled: Whether it is started, default no.
        api_url: The server's API, shown without credentials; empty, the default: a local server managed for you.
        port: The managed server's port; 0, the default: any free one.
        work_pool: The pool its flow runs go to, default `mahavishnu-pool`.
        start_timeout: How long the managed server may take to answer, default 90 s (`start_timeout_seconds`).
        api_key: The key for the server at `api_url`, never shown; empty by default.
    """

    enabled: Annotated[bool, kinds.flag()] = False
    api_url: Annotated[Secret, kinds.url("http", "https")] = Secret("")
    port: Annotated[int, kinds.whole(at_least=0, at_most=65_535)] = 0
    work_pool: Annotated[str, kinds.text(empty=False)] = "mahavishnu-pool"
    start_timeout: Annotated[timedelta, Key("start_timeout_seconds"), kinds.duration(at_least=1)] = timedelta(
        seconds=90
    )
    api_key: Annotated[Secret, kinds.secret()] = Secret("")


class LoggingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[logging]`: what the command line programs write.

    Attributes:
        level: The least severe level written, default `info`.
        format: `console` (default) for people, `json` for machines.
    """

    level: Annotated[str, kinds.choice(*_LEVELS)] = "info"
    format: Annotated[str, kinds.choice("console", "json")] = "console"


class RepoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[repos]]` table. Whether the path holds a repository is found out where it is used.

    Attributes:
        path: The repository's folder, absolute.
        name: Its name, unique; default the folder's own.
        tags: Free words to choose repositories by.
        role: A free word; empty by default.
    """

    path: Annotated[Path, kinds.file_path()]
    name: Annotated[str, kinds.text(empty=False)] = ""
    tags: Annotated[tuple[str, ...], kinds.names()] = ()
    role: Annotated[str, kinds.text()] = ""

    def __post_init__(self) -> None:
        """Name a repository after its folder where it has no name."""
        if not self.name:
            force_setattr(self, "name", self.path.name or str(self.path))

    def __str__(self) -> str:
        """Return the path, with the tags and the role where there are any."""
        notes = [*self.tags, *([f"role {self.role}"] if self.role else [])]
        return f"{self.path}" + (f" ({', '.join(notes)})" if notes else "")


class CheckSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[checks]]` table: a command that `code_sweep` runs in repositories.

    Attributes:
        name: Its name, unique.
        command: The program and its arguments; no shell is involved.
        timeout: How long it may take, default 10 minutes (`timeout_seconds`).
        allow_failure: Whether a failure is reported without failing the sweep, default no.
        repos: Only in repositories of these names; empty, the default: of any.
        tags: Only in repositories with one of these tags; empty, the default: with any.
    """

    name: Annotated[str, kinds.text(empty=False)]
    command: Annotated[tuple[str, ...], kinds.command()]
    timeout: Annotated[timedelta, Key("timeout_seconds"), kinds.duration(zero=False)] = timedelta(minutes=10)
    allow_failure: Annotated[bool, kinds.flag()] = False
    repos: Annotated[tuple[str, ...], kinds.names()] = ()
    tags: Annotated[tuple[str, ...], kinds.names()] = ()

    def __str__(self) -> str:
        """Return the command."""
        return redact_text(" ".join(self.command))


class ProviderSettings(Mapping[str, object]):
    """One `[providers.NAME]` table as it was given; its `repr` shows no credentials.

    The provider checks it with `read_provider`. Relative values of `path`, `…_path` and `…_dir` are absolute here.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> object:
        """Return the value of a key."""
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._values)

    def __repr__(self) -> str:
        """Return the table as it may be shown."""
        return f"ProviderSettings({self.shown()!r})"

    def shown(self) -> dict[str, str]:
        """Return every value as text that may be shown."""
        return {key: MASK if is_secret_key(key) else redact_text(str(value)) for key, value in self.items()}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be configured. `load_settings` makes it; so may a program, as defaults apply here too.

    Attributes:
        app: `module:attribute` of the `MahavishnuApp`; empty where none is configured.
        state_dir: The one folder with everything that is stored, absolute; default `.mahavishnu` in `project_dir`.
        timezone: The IANA zone of schedules that name none; empty, the default: the machine's.
        queue_provider: The provider of jobs that name none, default `sqlite`; see `provider_name`.
        ledger: Where the ledger is, as configured; empty by default. Use `ledger_url`.
        scheduler: What holds for every schedule.
        worker: How durable jobs are worked on.
        jobs: What holds for every job.
        retention: What the ledger forgets.
        prefect: The engine for watched work.
        providers: The tables of queue providers by name.
        repos: The repositories, in the order given.
        checks: The commands of `code_sweep`, in the order given.
        logging: What the command line programs write.
        source: The file it was read from; `None` where there was none.
        project_dir: That file's folder, or the working directory.
        origins: Where each value that is no default was given, by dotted key.
    """

    app: Annotated[str, kinds.import_path()] = ""
    state_dir: Annotated[Path, kinds.file_path()] = Path(STATE_FOLDER)
    timezone: Annotated[str, kinds.zone()] = ""
    queue_provider: Annotated[str, kinds.text(empty=False)] = "sqlite"
    ledger: Annotated[Secret, kinds.ledger_url()] = Secret("")
    scheduler: Annotated[SchedulerSettings, Section(SchedulerSettings)] = SchedulerSettings()
    worker: Annotated[WorkerSettings, Section(WorkerSettings)] = WorkerSettings()
    jobs: Annotated[JobSettings, Section(JobSettings)] = JobSettings()
    retention: Annotated[RetentionSettings, Section(RetentionSettings)] = RetentionSettings()
    prefect: Annotated[PrefectSettings, Section(PrefectSettings)] = PrefectSettings()
    providers: Annotated[Mapping[str, ProviderSettings], FreeTables()] = {}
    repos: Annotated[tuple[RepoSettings, ...], Items(RepoSettings)] = ()
    checks: Annotated[tuple[CheckSettings, ...], Items(CheckSettings)] = ()
    logging: Annotated[LoggingSettings, Section(LoggingSettings)] = LoggingSettings()
    source: Path | None = None
    project_dir: Path = msgspec.field(default_factory=Path.cwd)
    origins: Mapping[str, Origin] = {}

    def __post_init__(self) -> None:
        """Make the state folder absolute."""
        force_setattr(self, "state_dir", self.project_dir / self.state_dir)

    @property
    def ledger_url(self) -> Secret:
        """Where the ledger is: the configured URL, or `sqlite:///` and `ledger.db` in the state folder."""
        return self.ledger or Secret.url(f"sqlite:///{self.state_dir / 'ledger.db'}")

    def provider_name(self, name: str | None = None) -> str:
        """Return the provider that answers to a name, following `use = "other"` in its table.

        Args:
            name: As callers write it; `None`: the default provider.
        """
        found = name or self.queue_provider
        for _ in self.providers:  # as many steps as a chain without a circle can have
            table = self.providers.get(found)
            if table is None or "use" not in table:
                break
            found = str(table["use"])
        return found

    def refuse(self, key: str, problem: str) -> SettingError:
        """Return the error about a dotted key that a later check finds wrong; raise it."""
        return self.origins.get(key, Origin("default")).error(key, problem)
