"""One SQLite file: group commit, isolation of failures, and every way a file can refuse."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from functools import partial

import pytest

from mahavishnu.errors import StorageError
from mahavishnu.storage.sqlite import Database

SCHEMA = "CREATE TABLE item (name TEXT PRIMARY KEY, size INTEGER);\nCREATE INDEX item_size ON item (size)"


def insert(name, connection):
    """Store one row."""
    connection.execute("INSERT INTO item VALUES (?, ?)", (name, len(name)))
    return name


def names(connection):
    """Return what is stored."""
    return [name for (name,) in connection.execute("SELECT name FROM item ORDER BY name")]


@pytest.fixture
async def database(tmp_path):
    """An open database with one table."""
    database = Database(tmp_path / "state" / "items.db", migrations=[SCHEMA], busy_seconds=0.2)
    await database.open()
    yield database
    await database.close()


async def submit_together(database, functions, **options):
    """Submit operations so that they share one commit: while the writer is held up."""
    held = threading.Event()
    first = database.submit(lambda _: held.wait(5), durable=False)
    futures = [database.submit(function, **options) for function in functions]
    held.set()
    await first
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_what_was_written_is_read(database):
    """An operation's result is what its function returns, and readers see it afterwards."""
    assert await database.write(partial(insert, "a")) == "a"
    assert await database.read(names) == ["a"]


async def test_operations_share_a_commit(database):
    """Operations that arrive while another is under way are committed together."""
    statements = []
    await database.write(lambda connection: connection.set_trace_callback(statements.append))
    assert await submit_together(database, [partial(insert, name) for name in "abc"]) == ["a", "b", "c"]
    assert statements.count("BEGIN IMMEDIATE") <= 2  # one if the writer had not taken the first yet
    assert await database.read(names) == ["a", "b", "c"]


async def test_a_failed_operation_is_undone_alone(database):
    """An operation that fails takes back its own changes and not those of its neighbours."""

    def fail(connection):
        insert("half", connection)
        raise LookupError("no")

    results = await submit_together(database, [partial(insert, "a"), fail, partial(insert, "b")])
    assert [type(result) for result in results] == [str, LookupError, str]
    assert await database.read(names) == ["a", "b"]
    with pytest.raises(LookupError):
        await database.write(fail)
    assert await database.read(names) == ["a", "b"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, StopIteration])
async def test_nothing_stops_the_writer(database, error):
    """Whatever an operation raises, its caller hears of it and the next operation is run."""

    def fail(connection):
        raise error

    future = database.submit(fail)
    await asyncio.wait([future])
    assert isinstance(future.exception(), RuntimeError if error is StopIteration else error)
    assert await database.write(partial(insert, "after")) == "after"


async def test_a_hidden_rollback_is_no_success(database):
    """An operation after which SQLite holds no transaction any more is an error, whatever it returns."""

    def lose(connection):
        insert("lost", connection)
        connection.execute("ROLLBACK")
        return "stored"

    with pytest.raises(StorageError):
        await database.write(lose)
    results = await submit_together(database, [partial(insert, "a"), lose])
    assert [type(result) for result in results] == [str, StorageError]
    assert await database.read(names) == ["a"]


@pytest.mark.parametrize(("durable", "level"), [(True, "FULL"), (False, "NORMAL")])
async def test_flushing_is_what_was_asked(database, durable, level):
    """A commit is flushed to disk when an operation in it asks for that, and only then."""
    statements = []
    await database.write(lambda connection: connection.set_trace_callback(statements.append), durable=not durable)
    await database.write(partial(insert, "a"), durable=durable)
    assert f"PRAGMA synchronous={level}" in statements


async def test_those_that_need_the_disk_wait_for_it_and_the_others_do_not(database):
    """In a mixed commit the others are told first; then everything is flushed; then the durable ones are told."""
    statements: list[str] = []
    told: list[str] = []
    await database.write(lambda c: c.set_trace_callback(statements.append))
    gate = threading.Event()
    blocked = database.submit(lambda c: gate.wait(5))  # so that the next two share a commit
    durable = database.submit(partial(insert, "a"), durable=True)
    quick = database.submit(partial(insert, "b"), durable=False)
    for name, future in (("durable", durable), ("quick", quick)):
        future.add_done_callback(lambda _, name=name: told.append(name))
    gate.set()
    await asyncio.gather(blocked, durable, quick)
    assert told == ["quick", "durable"]
    flushed = statements[statements.index("PRAGMA synchronous=NORMAL") :]
    assert flushed.count("COMMIT") == 2
    after_full = flushed[flushed.index("PRAGMA synchronous=FULL") :]
    assert after_full[1] == "BEGIN IMMEDIATE"
    assert after_full[-1] == "COMMIT"


async def test_a_cancelled_operation_is_still_done(database):
    """Cancelling the future of an operation that was submitted does not undo it."""
    future = database.submit(partial(insert, "a"))
    future.cancel()
    await database.write(names)
    assert await database.read(names) == ["a"]


async def test_closing_finishes_what_was_submitted(database):
    """Operations submitted before `close` are committed and their callers told."""
    futures = [database.submit(partial(insert, name)) for name in "abc"]
    await database.close()
    assert await asyncio.gather(*futures) == ["a", "b", "c"]
    await database.open()
    assert await database.read(names) == ["a", "b", "c"]


async def test_open_and_close_are_idempotent(tmp_path):
    """Each may be called twice, at the same time, and close without open."""
    database = Database(tmp_path / "items.db", migrations=[SCHEMA])
    await database.close()
    await asyncio.gather(database.open(), database.open())
    assert sum("items.db" in thread.name for thread in threading.enumerate()) == 1
    assert database.is_open
    await asyncio.gather(database.close(), database.close())
    assert not database.is_open
    assert not any("items.db" in thread.name for thread in threading.enumerate())


async def test_use_after_close(database):
    """A closed database refuses every call, saying so."""
    await database.close()
    for call in (database.write(names), database.read(names)):
        with pytest.raises(StorageError, match="closed"):
            await call
    with pytest.raises(StorageError, match="closed"):
        database.version()


async def test_version_follows_other_connections(database):
    """The change counter moves when another process commits, and stands still otherwise."""
    before = database.version()
    assert database.version() == before
    with sqlite3.connect(database.path) as other:
        other.execute("INSERT INTO item VALUES ('other', 1)")
    other.close()
    assert database.version() != before


# --- files that refuse ---


async def test_a_full_disk(database):
    """When the disk is full the call fails, retryable; what was stored before stays, and writing works again later."""
    await database.write(partial(insert, "before"))

    def limit(pages, connection):
        connection.execute(f"PRAGMA max_page_count={pages}")

    def fill(connection):
        for number in range(1000):
            insert(f"{number:0500}", connection)

    await database.write(partial(limit, 20))
    with pytest.raises(StorageError, match="disk is full") as caught:
        await database.write(fill)
    assert caught.value.retryable
    results = await submit_together(database, [partial(insert, "small"), fill])
    assert [type(result) for result in results] == [str, StorageError]
    assert await database.read(names) == ["before", "small"]
    await database.write(partial(limit, 1_000_000))
    await database.write(partial(insert, "zlast"))
    assert await database.read(names) == ["before", "small", "zlast"]


async def test_a_locked_file(database):
    """Another process that holds the lock for too long is a retryable error, and nothing is lost by it."""
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked by another process") as caught:
        await database.write(partial(insert, "a"))
    assert caught.value.retryable
    waiting = database.submit(partial(insert, "b"))
    other.execute("ROLLBACK")
    other.close()
    assert await waiting == "b"
    assert await database.read(names) == ["b"]


async def test_opening_a_locked_file(tmp_path):
    """A file that somebody holds exclusively cannot be opened, and says why within the time allowed."""
    other = sqlite3.connect(tmp_path / "items.db", isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    database = Database(tmp_path / "items.db", migrations=[SCHEMA], busy_seconds=0.1)
    with pytest.raises(StorageError, match="locked"):
        await database.open()
    assert not database.is_open
    other.close()
    await database.open()
    await database.close()


async def test_a_file_that_is_no_database(tmp_path):
    """A file with something else in it is left alone."""
    path = tmp_path / "items.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match=r"items\.db: not a database; move the file away"):
        await Database(path, migrations=[SCHEMA]).open()
    assert path.read_bytes().startswith(b"not a database")


async def test_a_damaged_file(tmp_path):
    """Damage found while reading is reported as such."""
    path = tmp_path / "items.db"
    database = Database(path, migrations=[SCHEMA])
    await database.open()
    for number in range(50):
        await database.write(partial(insert, f"{number:0300}"), durable=False)
    await database.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    await database.open()
    with pytest.raises(StorageError, match="damaged; restore it from a copy"):
        await database.read(names)
    with pytest.raises(StorageError, match="damaged"):
        await database.write(partial(insert, "x"))
    await database.close()


async def test_a_folder_that_cannot_be_made(tmp_path):
    """A state folder below a file is an error naming the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="the state folder cannot be made"):
        await Database(tmp_path / "file" / "items.db", migrations=[SCHEMA]).open()


async def test_a_folder_in_place_of_the_file(tmp_path):
    """A path that is a folder cannot be opened, and says what to check."""
    with pytest.raises(StorageError, match="cannot be opened; check that the folder exists"):
        await Database(tmp_path, migrations=[SCHEMA]).open()


# --- migrations ---


async def test_migrations_are_applied_once_and_in_order(tmp_path):
    """A file gets the scripts it has not had, and keeps its rows."""
    path = tmp_path / "items.db"
    first = Database(path, migrations=[SCHEMA])
    await first.open()
    await first.write(partial(insert, "old"))
    await first.close()
    second = Database(path, migrations=[SCHEMA, "ALTER TABLE item ADD COLUMN colour TEXT DEFAULT 'red'"])
    for _ in range(2):
        await second.open()
        assert await second.read(lambda c: c.execute("SELECT name, colour FROM item").fetchall()) == [("old", "red")]
        await second.close()


async def test_a_file_of_a_newer_version(tmp_path):
    """A file with more migrations than we know is not touched."""
    path = tmp_path / "items.db"
    newer = Database(path, migrations=[SCHEMA, "CREATE TABLE future (x)"])
    await newer.open()
    await newer.close()
    with pytest.raises(StorageError, match="written by a newer Mahavishnu"):
        await Database(path, migrations=[SCHEMA]).open()


async def test_a_failed_migration_changes_nothing(tmp_path):
    """A script that fails half-way leaves the file as it was."""
    path = tmp_path / "items.db"
    with pytest.raises(StorageError, match="no such table"):
        await Database(path, migrations=["CREATE TABLE a (x);\nINSERT INTO missing VALUES (1)"]).open()
    database = Database(path, migrations=[SCHEMA])
    await database.open()
    tables = await database.read(lambda c: c.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall())
    assert tables == [("item",)]
    await database.close()


async def test_many_open_a_new_file_at_once(tmp_path):
    """Whoever comes first creates the file; all can use it."""
    databases = [Database(tmp_path / "items.db", migrations=[SCHEMA]) for _ in range(8)]
    await asyncio.gather(*(database.open() for database in databases))
    await asyncio.gather(*(it.write(partial(insert, f"{place}")) for place, it in enumerate(databases)))
    assert len(await databases[0].read(names)) == 8
    await asyncio.gather(*(database.close() for database in databases))
