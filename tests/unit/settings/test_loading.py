"""Settings come from the file, the environment and arguments, in this order, with defaults last."""

from datetime import timedelta
from pathlib import Path

import pytest

from mahavishnu.errors import ConfigurationError, SettingError
from mahavishnu.model.policies import MisfireKind, OverlapPolicy
from mahavishnu.settings import CheckSettings, Settings, load_settings

FULL = """
app = "project.app:app"
state_dir = "state"
timezone = "Europe/London"
queue_provider = "redis"
ledger = "sqlite:///data/ledger.db"

[scheduler]
misfire = "cap=3"
misfire_grace_seconds = 1.5
overlap = "queue_one"
stop_grace_seconds = 5

[worker]
processes = 2
concurrency = 10
threads = 4
queues = ["default", "mail"]
lease_seconds = 60
grace_seconds = 0
max_deliveries = 9

[jobs]
max_attempts = 1
timeout_seconds = 90
max_payload_bytes = 2000
idempotency_window_seconds = 60

[retention]
keep_days = 0.5

[prefect]
enabled = true
api_url = "https://me:hunter2@prefect.test/api"
api_key = "hunter3"
port = 4300

[providers.redis]
url = "redis://me:hunter4@localhost"
max_connections = 5
ca_path = "certs/ca.pem"

[providers.kafka]
use = "redis"

[[repos]]
path = "docs"
tags = ["text"]
role = "site"

[[repos]]
name = "other"
path = "/srv/other"

[[checks]]
name = "lint"
command = "ruff check '.'"
timeout_seconds = 5
allow_failure = true
repos = ["docs"]

[[checks]]
name = "test"
command = ["pytest", "-q"]
tags = ["text"]

[logging]
level = "debug"
format = "json"
"""


@pytest.fixture
def project(tmp_path):
    """A folder with a full settings file; returns the folder."""
    (tmp_path / "mahavishnu.toml").write_text(FULL)
    return tmp_path


def load(folder, text=None, **kwargs):
    """Load the settings of a folder, writing `text` as its file first."""
    if text is not None:
        (folder / "mahavishnu.toml").write_text(text)
    return load_settings(start=folder, environ=kwargs.pop("environ", {}), **kwargs)


def problem(folder, text=None, **kwargs):
    """Return the error that loading raises."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, **kwargs)
    assert isinstance(caught.value, SettingError)
    return caught.value


def test_defaults_without_a_file(tmp_path):
    """With nothing given every value is the documented default."""
    settings = load(tmp_path)
    assert settings.source is None
    assert settings.project_dir == tmp_path
    assert settings.state_dir == tmp_path / ".mahavishnu"
    assert settings.queue_provider == "sqlite"
    assert settings.ledger_url.reveal() == f"sqlite:///{tmp_path}/.mahavishnu/ledger.db"
    assert settings.jobs.timeout is None
    assert settings.worker.lease == timedelta(seconds=30)
    assert settings.jobs.idempotency_window == timedelta(days=1)
    assert settings.scheduler.misfire_policy.grace == timedelta(seconds=60)


def test_program_made_settings_equal_loaded_ones(tmp_path):
    """Settings made in a program have the same defaults as loaded ones."""
    assert load(tmp_path) == Settings(project_dir=tmp_path)


def test_every_value_of_a_file(project):
    """Every key of the reference is read into its typed value."""
    settings = load(project)
    assert settings.source == project / "mahavishnu.toml"
    assert (settings.app, settings.timezone) == ("project.app:app", "Europe/London")
    assert settings.state_dir == project / "state"
    assert settings.ledger_url.reveal() == f"sqlite:///{project}/data/ledger.db"
    assert (settings.scheduler.misfire_policy.kind, settings.scheduler.misfire_policy.cap) == (MisfireKind.CAP, 3)
    assert settings.scheduler.misfire_policy.grace == timedelta(seconds=1.5)
    assert settings.scheduler.overlap is OverlapPolicy.QUEUE_ONE
    assert settings.worker.queues == ("default", "mail")
    assert settings.worker.grace == timedelta(0)
    assert settings.jobs.timeout == timedelta(seconds=90)
    assert settings.retention.keep == timedelta(hours=12)
    assert settings.prefect.enabled
    assert settings.prefect.api_key.reveal() == "hunter3"
    assert settings.logging.format == "json"


def test_repos_and_checks(project):
    """Repositories are named after their folder, and commands are split into words."""
    settings = load(project)
    assert [(r.name, r.path, r.tags, r.role) for r in settings.repos] == [
        ("docs", project / "docs", ("text",), "site"),
        ("other", Path("/srv/other"), (), ""),
    ]
    assert [c.command for c in settings.checks] == [("ruff", "check", "."), ("pytest", "-q")]
    assert settings.checks[0] == CheckSettings(
        name="lint",
        command=("ruff", "check", "."),
        timeout=timedelta(seconds=5),
        allow_failure=True,
        repos=("docs",),
    )


def test_free_tables_of_providers(project):
    """A provider's table is kept as it is, its relative paths made absolute, and redirections are followed."""
    settings = load(project)
    assert settings.providers["redis"]["max_connections"] == 5
    assert settings.providers["redis"]["ca_path"] == str(project / "certs/ca.pem")
    assert settings.provider_name() == "redis"
    assert settings.provider_name("kafka") == "redis"
    assert settings.provider_name("nats") == "nats"


def test_file_of_the_nearest_parent(project):
    """The file is looked for upwards, and paths start at its folder, not at the working directory."""
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    settings = load(deep)
    assert settings.project_dir == project
    assert settings.state_dir == project / "state"


def test_explicit_file(tmp_path):
    """A file that is named is read in place of the nearest one."""
    (tmp_path / "mahavishnu.toml").write_text("app = 'near:app'")
    other = tmp_path / "conf" / "other.toml"
    other.parent.mkdir()
    other.write_text("app = 'other:app'")
    assert load(tmp_path, path="conf/other.toml").app == "other:app"
    assert load(tmp_path, environ={"MAHAVISHNU_CONFIG": str(other)}).project_dir == other.parent


def test_environment_over_file_and_arguments_over_both(project):
    """Each later source wins key by key and leaves the other keys alone."""
    environ = {"MAHAVISHNU_WORKER__CONCURRENCY": "20", "MAHAVISHNU_WORKER__THREADS": "8", "MAHAVISHNU_APP": "e:app"}
    settings = load(project, environ=environ, overrides={"worker.concurrency": 30, "app": None})
    assert settings.worker.concurrency == 30
    assert settings.worker.threads == 8
    assert settings.worker.processes == 2
    assert settings.app == "e:app"


def test_unset_is_not_default(tmp_path):
    """A value equal to the default still overrides a lower source, and an unset one does not."""
    text = "[worker]\nconcurrency = 7\nthreads = 7"
    settings = load(tmp_path, text, overrides={"worker": {"concurrency": 100, "threads": None}})
    assert (settings.worker.concurrency, settings.worker.threads) == (100, 7)


@pytest.mark.parametrize(
    ("name", "text", "read", "expected"),
    [
        ("MAHAVISHNU_PREFECT__ENABLED", "Yes", lambda s: s.prefect.enabled, True),
        ("MAHAVISHNU_PREFECT__ENABLED", "0", lambda s: s.prefect.enabled, False),
        ("MAHAVISHNU_WORKER__QUEUES", "a, b", lambda s: s.worker.queues, ("a", "b")),
        ("MAHAVISHNU_JOBS__TIMEOUT_SECONDS", "1.5", lambda s: s.jobs.timeout, timedelta(seconds=1.5)),
        ("MAHAVISHNU_LEDGER", "memory:", lambda s: s.ledger_url.reveal(), "memory:"),
        ("MAHAVISHNU_PROVIDERS__REDIS__URL", "redis://h", lambda s: s.providers["redis"]["url"], "redis://h"),
        ("MAHAVISHNU_TIMEZONE", "", lambda s: s.timezone, ""),
        ("MAHAVISHNU_WORKER__THREADS", " ", lambda s: s.worker.threads, 32),
    ],
)
def test_environment_text(tmp_path, name, text, read, expected):
    """Variables are read by the kind of their setting; empty ones set nothing."""
    assert read(load(tmp_path, environ={name: text})) == expected


def test_relative_paths_of_environment_and_arguments(project):
    """They start at the working directory, wherever the file is."""
    deep = project / "deep"
    deep.mkdir()
    assert load(deep, environ={"MAHAVISHNU_STATE_DIR": "s"}).state_dir == deep / "s"
    assert load(deep, overrides={"state_dir": Path("../t")}).state_dir == project / "t"


def test_variables_of_others_are_left_alone(tmp_path):
    """What Kubernetes sets for a service called mahavishnu, and what processes tell each other, is no setting."""
    environ = {
        "MAHAVISHNU_PORT": "tcp://10.0.0.1:80",
        "MAHAVISHNU_PORT_80_TCP_ADDR": "10.0.0.1",
        "MAHAVISHNU_SERVICE_HOST": "10.0.0.1",
        "MAHAVISHNU_INTERNAL_PARENT": "1",
        "OTHER": "x",
    }
    assert load(tmp_path, environ=environ) == load(tmp_path)


def test_typed_arguments(tmp_path):
    """Arguments may be the values that the settings hold."""
    overrides = {"scheduler": {"stop_grace_seconds": timedelta(seconds=2)}, "retention.keep_days": timedelta(days=2)}
    settings = load(tmp_path, overrides=overrides)
    assert (settings.scheduler.stop_grace, settings.retention.keep) == (timedelta(seconds=2), timedelta(days=2))


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("a = 1\n[worker]\n", 1, "a", "unknown setting"),
        ("\n[worker]\nconcurency = 1", 3, "worker.concurency", "did you mean 'worker.concurrency'?"),
        ("[wroker]", 1, "wroker", "did you mean 'worker'?"),
        ("concurrency = 5", 1, "concurrency", "did you mean 'worker.concurrency'?"),
        ("[worker]\nconcurrency = '5'", 2, "worker.concurrency", "given '5' (text)"),
        ("[worker]\nconcurrency = true", 2, "worker.concurrency", "given true (true or false)"),
        ("[worker]\nconcurrency = 0", 2, "worker.concurrency", "at least 1"),
        ("worker = 3", 1, "worker", "expected a table, given 3 (a whole number)"),
        ("[app]", 1, "app", "expected text, given a table"),
        ("app = 'nonsense'", 1, "app", "expected module:attribute"),
        ("[jobs]\ntimeout_seconds = 0", 2, "jobs.timeout_seconds", "above 0"),
        ("[jobs]\ntimeout_seconds = nan", 2, "jobs.timeout_seconds", "given nan"),
        ("[jobs]\ntimeout_seconds = 1e300", 2, "jobs.timeout_seconds", "at most"),
        ("[prefect]\nenabled = 1", 2, "prefect.enabled", "expected true or false"),
        ("timezone = 'Europe/Lodnon'", 1, "timezone", "did you mean 'Europe/London'?"),
        ("timezone = '../etc'", 1, "timezone", "write an IANA name"),
        ("[scheduler]\nmisfire = 'lastest'", 2, "scheduler.misfire", "'latest'"),
        ("[scheduler]\noverlap = 'skipp'", 2, "scheduler.overlap", "did you mean 'skip'?"),
        ("[logging]\nlevel = 'inf'", 2, "logging.level", "did you mean 'info'?"),
        ("ledger = 'mysql://x'", 1, "ledger", "sqlite:///path"),
        ("state_dir = ''", 1, "state_dir", "expected a path"),
        ("state_dir = '~nobody-of-this-name/x'", 1, "state_dir", "no home folder"),
        ("[worker]\nqueues = []", 2, "worker.queues", "at least 1"),
        ("[worker]\nqueues = ['a', 1]", 2, "worker.queues", "one of them is 1"),
        ("[worker]\nqueues = ['a', 'a']", 2, "worker.queues", "twice"),
        ("[[repos]]\nname = 'x'", 1, "repos.0", "'path' is missing"),
        ("repos = 'x'", 1, "repos", "[[repos]]"),
        ("[[repos]]\npath='a'\n[[repos]]\npath='b'\nnmae='x'", 5, "repos.1.nmae", "did you mean 'repos.1.name'?"),
        ("[[repos]]\npath='x/a'\n\n[[repos]]\npath='y/a'", 4, "repos.name", "first in line 1"),
        ("[[checks]]\nname='x'\ncommand='a \"b'", 3, "checks.0.command", "cannot be split"),
        ("[[checks]]\nname='x'\ncommand='a'\nrepos=['no']", 1, "checks.0", "not in [[repos]]"),
        ("[providers]\nredis = 'x'", 2, "providers.redis", "expected a table"),
        ("[providers.a]\nuse='b'\n[providers.b]\nuse='a'", 2, "providers.a.use", "circle"),
        ("[providers.a]\nuse='b'\nurl='x'", 2, "providers.a.use", "'url' would be ignored"),
        ("[providers.a]\nuse=3", 2, "providers.a.use", "name of another provider"),
        ("[providers.sqlite]\npath='~nobody-of-this-name/x'", 2, "providers.sqlite.path", "no home folder"),
        ("app = 1\napp = 2", 2, "", "not valid TOML"),
        ("\n\napp = ", 3, "", "not valid TOML"),
        ("app = '''never closed\n", 1, "", "not valid TOML"),
    ],
)
def test_file_errors(tmp_path, text, line, key, says):
    """Each mistake is named with its file, line, key and remedy."""
    error = problem(tmp_path, text)
    assert (error.source, error.line, error.key) == (str(tmp_path / "mahavishnu.toml"), line, key)
    assert says in str(error)
    assert str(error).startswith(f"{tmp_path}/mahavishnu.toml:{line}: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("MAHAVISHNU_WORKER__CONCURRENCY", "many", "worker.concurrency: expected a whole number"),
        ("MAHAVISHNU_WORKER__CONCURENCY", "1", "did you mean 'MAHAVISHNU_WORKER__CONCURRENCY'?"),
        ("MAHAVISHNU_PREFECT_API_URL", "http://x", "did you mean 'MAHAVISHNU_PREFECT__API_URL'?"),
        ("MAHAVISHNU_REPOS", "x", "expected a list of tables"),
        ("MAHAVISHNU_WORKER", "x", "expected a table"),
        ("MAHAVISHNU_PROVIDERS__REDIS", "x", "expected a table"),
    ],
)
def test_environment_errors(tmp_path, name, text, says):
    """A mistake in a variable names the variable."""
    error = problem(tmp_path, environ={name: text})
    assert error.source == f"environment variable {name}"
    assert says in str(error)


def test_argument_errors(tmp_path):
    """A mistake in an argument says so."""
    assert str(problem(tmp_path, overrides={"worker.concurrency": "x"})).startswith("argument: worker.concurrency: ")


@pytest.mark.parametrize("text", ["[prefect]\napi_key = 5", "[prefect]\napi_url = 'ftp://me:hunter2@x'"])
def test_errors_show_no_secrets(tmp_path, text):
    """A refused secret is not in the message."""
    assert "5" not in problem(tmp_path, text).problem
    assert "hunter2" not in problem(tmp_path, text).problem


def test_missing_file(tmp_path):
    """A file that was named and is not there is an error, a folder in its place too."""
    assert "no settings file" in str(problem(tmp_path, path="none.toml"))
    assert "name the mahavishnu.toml in it" in str(problem(tmp_path, path=tmp_path))


def test_file_that_is_no_text(tmp_path):
    """Bytes that are not UTF-8 are named with their line."""
    (tmp_path / "mahavishnu.toml").write_bytes(b"app = 'a:b'\n# \xff\n")
    error = problem(tmp_path)
    assert (error.line, "UTF-8" in error.problem) == (2, True)


def test_working_directory_that_is_gone(tmp_path, monkeypatch):
    """A shell may stand in a folder that somebody has removed."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingError, match="change to another one"):
        load_settings(environ={})


def test_deeply_nested_file(tmp_path):
    """Nesting beyond the parser's depth is an error like any other."""
    assert "nested too deeply" in str(problem(tmp_path, "a = " + "[" * 50_000))


def test_state_dir_that_is_a_file(tmp_path):
    """A state folder, or a parent of it, that is a file is refused where it is named."""
    (tmp_path / "file").write_text("")
    assert problem(tmp_path, "state_dir = 'file'").line == 1
    error = problem(tmp_path, "", environ={"MAHAVISHNU_STATE_DIR": "file/below"})
    assert (error.source, "is a file" in error.problem) == ("environment variable MAHAVISHNU_STATE_DIR", True)


def test_repr_shows_no_secrets(project):
    """The whole settings can be logged."""
    assert "hunter" not in repr(load(project))
    assert "hunter" not in str(load(project))


def test_later_checks_name_the_source(project):
    """A check made elsewhere raises an error with file and line."""
    error = load(project).refuse("queue_provider", "is unknown")
    assert (error.line, error.key) == (5, "queue_provider")
