"""Secrets are never shown, and credentials are taken out of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.model.secret import Secret, is_secret_key, redact_text, redact_url

WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="@/?#:"), min_size=4)


def test_secret_shows_nothing_and_reveals_itself():
    """`str`, `repr` and formatting hide the text; only `reveal` returns it."""
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {secret!s:>20}"
    assert secret.reveal() == "hunter2"


def test_empty_secret_is_false_and_shows_empty():
    """An unset secret can be told from a set one without revealing either."""
    assert not Secret("")
    assert str(Secret("")) == ""
    assert Secret("x")


def test_secrets_compare_by_text():
    """Equality and hash follow the text, not what is shown."""
    assert Secret("a") == Secret("a", shown="other")
    assert Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pw@host:6379/0", "redis://host:6379/0"),
        ("redis://:pa/ss@host/0", "redis://host/0"),
        ("postgresql://u:p%40w@h/db?password=x&sslmode=require", "postgresql://h/db?password=***&sslmode=require"),
        ("nats://u:p@h1:4222,nats://v:q@h2:4222", "nats://h1:4222,nats://h2:4222"),
        ("https://host:8080/path@v1", "https://host:8080/path@v1"),
        ("https://github.com/@scope/package", "https://github.com/@scope/package"),
        ("sqlite:///data/ledger.db", "sqlite:///data/ledger.db"),
        ("", ""),
    ],
)
def test_redact_url(url, shown):
    """User and password go, secrets in the query are masked, and everything else stays."""
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=db password=abc user=me", "host=db password=*** user=me"),
        ('{"api_key": "a b", "n": 1}', '{"api_key": ***, "n": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("cannot reach 'amqp://a:b@h/' now", "cannot reach 'amqp://h/' now"),
        ("Unexpected token: }", "Unexpected token: }"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_redact_text(text, shown):
    """Credentials inside messages are masked, and prose is left alone."""
    assert redact_text(text) == shown


@given(user=WORD, password=WORD)
def test_no_password_survives(user, password):
    """Whatever the user and password, neither is left of a URL in a message."""
    assert redact_text(f"connect to redis://{user}:{password}@host/0 failed") == "connect to redis://host/0 failed"


@given(st.text(max_size=300))
def test_redaction_takes_any_text(text):
    """No text makes redaction fail, and doing it twice changes nothing more."""
    once = redact_text(text)
    assert redact_text(once) == once or "://" in text


@pytest.mark.parametrize("key", ["password", "API_KEY", "prefect-api-key", "accessToken", "Authorization", "db_passwd"])
def test_secret_names(key):
    """Names of secrets are recognised in any spelling."""
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["task", "idempotency_key", "url", "schedule", "author", "pass_count"])
def test_other_names(key):
    """Ordinary names are not taken for secrets."""
    assert not is_secret_key(key)
