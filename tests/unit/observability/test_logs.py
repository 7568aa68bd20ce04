"""Log lines are structured, redacted, and cost little where nobody reads them."""

import asyncio
import io
import json
import logging
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.errors import ConfigurationError
from mahavishnu.observability.logs import bind, configure_logging, get_logger


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say yes."""
        return True


@pytest.fixture(autouse=True)
def _restored():
    """Leave the product's logger as it was found."""
    logger = logging.getLogger("mahavishnu")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def written(format="console", level="debug", stream=None):
    """Set logging up; return a function that gives the lines written since."""
    target = stream or io.StringIO()
    configure_logging(level, format, target)
    return lambda: target.getvalue().splitlines()


log = get_logger("mahavishnu.test")


def test_console_line():
    """A line has the time, the level, the event and its pairs."""
    lines = written()
    log.info("task_failed", error="boom", attempt=2, ratio=0.5, none=None, yes=True)
    clock, rest = lines()[0].split(" ", 1)
    assert [len(part) for part in clock.split(":")] == [2, 2, 2]
    assert rest == "INFO  task_failed error=boom attempt=2 ratio=0.5 none=null yes=true"


def test_console_quotes_what_would_be_ambiguous():
    """Text with spaces, quotes, line ends or terminal codes is quoted and stays on its line."""
    lines = written()
    log.error("x", a="two words", b='say "hi"', c="one\ntwo", d="\x1b[31mred", e="", f={"k": [1, "v"]})
    (line,) = lines()
    assert 'a="two words" b="say \\"hi\\"" c="one\\ntwo"' in line
    assert "\x1b" not in line
    assert line.endswith('e="" f={"k":[1,"v"]}')


def test_json_line():
    """Each line is one object with the standard names first."""
    lines = written("json")
    log.warning("task_failed", attempt=2, context={"a": [1, 2]})
    entry = json.loads(lines()[0])
    assert list(entry) == ["time", "level", "event", "logger", "attempt", "context"]
    assert (entry["level"], entry["event"], entry["logger"]) == ("warning", "task_failed", "mahavishnu.test")
    assert entry["time"].endswith("+00:00")
    assert entry["context"] == {"a": [1, 2]}


def test_json_names_that_are_taken():
    """A pair cannot overwrite a standard name."""
    lines = written("json")
    log.info("x", level="mine", exception="mine")
    entry = json.loads(lines()[0])
    assert (entry["level"], entry["level_"], entry["exception_"]) == ("info", "mine", "mine")


@pytest.mark.parametrize("format", ["console", "json"])
def test_secrets_are_masked(format):
    """Secrets by name, in nested values, in URLs, in messages and in tracebacks are not written."""
    lines = written(format)
    try:
        raise ConnectionError("no answer from redis://me:hunter2@host/0")
    except ConnectionError as exc:
        log.exception(
            "connect to amqp://me:hunter2@h",
            api_key="hunter2",
            auth_token=12345,
            error=str(exc),
            context={"password": "hunter2", "deep": [{"secret": "hunter2"}]},
            dsn="host=db password=hunter2",
        )
    text = "\n".join(lines())
    assert "hunter2" not in text
    assert "12345" not in text
    assert "redis://host/0" in text


@pytest.mark.parametrize("format", ["console", "json"])
def test_traceback(format):
    """The traceback of the exception being handled, or of one given, is written."""
    lines = written(format)
    try:
        raise ValueError("the cause")
    except ValueError as exc:
        kept = exc
    log.error("x", exc_info=kept)
    assert "ValueError: the cause" in "\n".join(lines())


@pytest.mark.parametrize("format", ["console", "json"])
def test_plain_records_too(format):
    """Records of the standard library's calls come out in the same form, bound fields included."""
    lines = written(format)
    with bind(run_id="r1"):
        logging.getLogger("mahavishnu.other").warning("%s of %d", "one", 2)
    assert "one of 2" in lines()[0]
    assert "r1" in lines()[0]


async def test_bound_fields_follow_the_work():
    """Fields are on every line inside, in tasks started there too, and gone afterwards."""
    lines = written()

    async def inner():
        log.info("inner")

    with bind(run_id="r1", task="t"):
        with bind(task="u"):
            await asyncio.create_task(inner())
        log.info("outer", extra=1)
    log.info("after")
    assert [line.split("INFO  ")[1] for line in lines()] == [
        "inner run_id=r1 task=u",
        "outer run_id=r1 task=t extra=1",
        "after",
    ]


async def test_bound_fields_do_not_mix():
    """Work side by side has its own fields."""
    lines = written()
    turn = asyncio.Barrier(2)

    async def work(name):
        with bind(run_id=name):
            await turn.wait()
            log.info(name)

    await asyncio.gather(work("a"), work("b"))
    assert sorted(line.split("INFO  ")[1] for line in lines()) == ["a run_id=a", "b run_id=b"]


def test_level():
    """Lines below the level are not written, and the logger says so beforehand."""
    lines = written(level="warning")
    log.info("no")
    log.log("critical", "yes")
    assert [line.split()[-1] for line in lines()] == ["yes"]
    assert (log.is_enabled("info"), log.is_enabled("error")) == (False, True)


def test_setting_up_again_replaces():
    """A second set-up does not write lines twice, and keeps handlers that a program added."""
    own = logging.NullHandler()
    logging.getLogger("mahavishnu").addHandler(own)
    written()
    lines = written()
    log.info("once")
    assert len(lines()) == 1
    assert own in logging.getLogger("mahavishnu").handlers


def test_other_loggers_are_untouched():
    """Neither the root logger nor anybody else's is changed."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    written()
    assert (root.handlers, root.level) == before


def test_embedding_program_sees_the_pairs(caplog):
    """Without our set-up any handler gets the event and its pairs as the message, redacted."""
    with caplog.at_level("INFO", logger="mahavishnu"), bind(run_id="r1"):
        log.info("task_failed", attempt=2, password="hunter2")
    assert caplog.messages == ["task_failed run_id=r1 attempt=2 password=***"]
    assert caplog.records[0].funcName == "test_embedding_program_sees_the_pairs"


def test_colours_only_on_a_terminal(monkeypatch):
    """Colours need a terminal and are refused by NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    on_terminal = written(stream=Terminal())
    log.info("x")
    in_file = written()
    log.info("x")
    monkeypatch.setenv("NO_COLOR", "1")
    refused = written(stream=Terminal())
    log.info("x")
    assert ["\x1b" in lines()[0] for lines in (on_terminal, in_file, refused)] == [True, False, False]


@pytest.mark.parametrize(("level", "format"), [("infos", "console"), ("info", "jsn")])
def test_wrong_set_up(level, format):
    """An unknown level or format is an error with the nearest name."""
    with pytest.raises(ConfigurationError, match="did you mean"):
        configure_logging(level, format)


def test_values_that_cannot_be_shown():
    """A value whose text fails, or that contains itself, is written as something else."""

    class Broken:
        def __str__(self):
            raise RuntimeError("no")

    loop = []
    loop.append(loop)
    lines = written("json")
    log.info("x", broken=Broken(), loop=loop, big=2**80, long="x" * 20_000)
    entry = json.loads(lines()[0])
    assert "Broken" in entry["broken"]
    assert entry["big"] == str(2**80)
    assert entry["long"].endswith("(10000 more characters)")


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.one_of(st.text(), st.integers()), inner)),
    max_leaves=8,
)


@given(st.text(), st.dictionaries(st.one_of(st.text(), st.just("\ud800")), ANYTHING, max_size=4))
def test_any_line_is_one_line(event, fields):
    """Whatever is logged, a line is one printable line on a console and one object in JSON."""
    lines = written()
    log.info(event, **fields)
    assert len(lines()) == 1
    stream = io.StringIO()
    written("json", stream=stream)
    log.info(event, **fields)
    line, rest = stream.getvalue().split("\n")
    assert rest == ""
    assert set(json.loads(line)) >= {"time", "level", "event", "logger"}


def test_disabled_call_is_cheap():
    """A call below the level costs a few times an empty one, as nothing is built."""
    written(level="error")
    plain = logging.getLogger("mahavishnu.test")
    ours = min(timeit.repeat(lambda: log.debug("x", a=1, b=2), number=20_000, repeat=7))
    standard = min(timeit.repeat(lambda: plain.debug("x %s %s", 1, 2), number=20_000, repeat=7))
    assert ours < 4 * standard
