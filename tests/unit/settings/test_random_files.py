"""No file, variable or argument makes loading fail with anything but a configuration error."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mahavishnu.errors import ConfigurationError
from mahavishnu.settings import Settings, describe, load_settings
from mahavishnu.settings.fields import Section, fields_by_key

KEYS = [
    *fields_by_key(Settings),
    *(
        f"{key}.{name}"
        for key, item in fields_by_key(Settings).items()
        if isinstance(item.shape, Section)
        for name in fields_by_key(item.shape.cls)
    ),
    "providers.sqlite.path",
    "providers.redis.use",
    "nonsense",
    "repos.name",
    '"odd key"',
]
AWKWARD = [
    *("true", "1979-05-27T07:32:00Z", "07:32:00", "{}", "{ path = 'a' }", "[{ path = 'a' }]"),
    *("[{ name = 'a', command = 'b c' }]", "[{ name = 'a', command = '\"' }]", '"\\u0000"', '"a:b\\u0000"'),
    *("''", "'a'", "'~'", "'~x/y'", "'/'", "'..'", "'.'", f"'{'x' * 300}'", f"'{'a/' * 3000}'"),
    *("'a:b'", "'redis://u:p@h'", "'sqlite:///x'", "'sqlite:///'", "'memory:'", "'redis'"),
    *("'America'", "'UTC'", "'cap=0'", "'cap=9'"),
]
SCALARS = st.one_of(
    st.integers(min_value=-(2**70), max_value=2**70).map(str),
    st.floats().map(str),
    st.sampled_from(AWKWARD),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="'"), max_size=12).map("'{}'".format),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3).map(lambda items: f"[{', '.join(items)}]"))
FILES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4).map(
    lambda entries: "\n".join(f"{key} = {value}" for key, value in entries.items())
)
VARIABLES = st.dictionaries(
    st.one_of(st.sampled_from(KEYS), st.text(max_size=8)).map(
        lambda key: "MAHAVISHNU_" + key.upper().replace(".", "__")
    ),
    st.one_of(st.text(max_size=12), st.sampled_from(["1", "nan", "-inf", "1e999", "9" * 5000, "a,b", "\udc80", "\0"])),
    max_size=3,
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=3)


def load_or_refuse(content, environ=None, overrides=None):
    """Load a file of these bytes; a configuration error of one line is a fine answer."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mahavishnu.toml").write_bytes(content)
        try:
            describe(load_settings(start=folder, environ=environ or {}, overrides=overrides))
        except ConfigurationError as exc:
            assert "\n" not in str(exc)  # noqa: PT017 - an error is allowed and not expected


@settings(max_examples=300, deadline=None)
@given(FILES)
def test_random_values(text):
    """Real keys with any values are read or refused."""
    load_or_refuse(text.encode())


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_random_bytes(content):
    """Any bytes are read or refused."""
    load_or_refuse(content)


@settings(max_examples=200, deadline=None)
@given(VARIABLES, ARGUMENTS)
def test_random_environment_and_arguments(environ, overrides):
    """Any variables and arguments are read or refused."""
    load_or_refuse(b"", environ, overrides)
