"""Settings are listed with their sources, and provider tables are checked by their own classes."""

from datetime import timedelta
from typing import Annotated

import msgspec
import pytest

from mahavishnu.errors import SettingError
from mahavishnu.settings import Key, describe, kinds, load_settings, read_provider

TEXT = """
[prefect]
api_key = "hunter2"
api_url = "https://me:hunter2@host/api"

[providers.redis]
url = "redis://me:hunter2@host"
password = "hunter2"

[[repos]]
path = "/srv/docs"
tags = ["text"]
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of some provider."""

    url: Annotated[str, kinds.text(empty=False)]
    size: Annotated[int, kinds.whole(at_least=1)] = 4
    wait: Annotated[timedelta, Key("wait_seconds"), kinds.duration()] = timedelta(seconds=1)


def load(folder, text, environ=None):
    """Load the settings that `text` makes."""
    (folder / "mahavishnu.toml").write_text(text)
    return load_settings(start=folder, environ=environ or {})


def test_every_setting_with_its_source(tmp_path):
    """Defaults, file values with their line and environment values are told apart."""
    settings = load(tmp_path, TEXT, {"MAHAVISHNU_WORKER__LEASE_SECONDS": "45"})
    rows = {row.key: (row.value, row.source) for row in describe(settings)}
    file = settings.source
    assert rows["worker.lease_seconds"] == ("45", "environment variable MAHAVISHNU_WORKER__LEASE_SECONDS")
    assert rows["retention.keep_days"] == ("30", "default")
    assert rows["jobs.timeout_seconds"] == ("", "default")
    assert rows["prefect.enabled"] == ("false", "default")
    assert rows["prefect.api_url"] == ("https://host/api", f"{file}:4")
    assert rows["repos.docs"] == ("/srv/docs (text)", f"{file}:10")
    assert rows["worker.queues"] == ("default", "default")


def test_secrets_are_hidden(tmp_path):
    """No secret is in the listing, whatever table it is in."""
    rows = describe(load(tmp_path, TEXT))
    assert "hunter2" not in repr(rows)
    assert {row.key: row.value for row in rows}["providers.redis.password"] == "***"


def test_provider_table_as_a_class(tmp_path):
    """A provider's own class reads its table, the environment's text included."""
    settings = load(tmp_path, "[providers.x]\nurl='u'\n", {"MAHAVISHNU_PROVIDERS__X__WAIT_SECONDS": "2.5"})
    assert read_provider(settings, "x", Options) == Options(url="u", wait=timedelta(seconds=2.5))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[providers.x]\nurl='u'\nsizze=1", "mahavishnu.toml:3: providers.x.sizze: unknown setting; did you mean"),
        ("[providers.x]\nurl='u'\nsize='1'", "mahavishnu.toml:3: providers.x.size: expected a whole number"),
        ("[providers.x]\nsize=1", "providers.x: 'url' is missing"),
        ("", "providers.x: 'url' is missing"),
    ],
)
def test_provider_table_errors(tmp_path, text, says):
    """What a provider's class refuses is named with its place."""
    with pytest.raises(SettingError, match="providers") as caught:
        read_provider(load(tmp_path, text), "x", Options)
    assert says in str(caught.value)
