"""One SQLite file: a writer thread with group commit, a reader, and a cheap change counter.

SQLite has one writer at a time, and a durable commit costs a disk flush. So each file gets one writer thread,
and whatever operations arrive while a commit is under way share the next one: single calls stay simple and
concurrent ones are fast. An operation that fails is undone alone; its neighbours in the commit are not touched.

An operation that asks for it is told of its success only when the disk has it (`synchronous=FULL`: survives power
loss); the others only survive the death of the process, which is enough for leases and other facts that can be
rebuilt, and do not wait for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from random import random
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mahavishnu.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Connection", "Database"]

T = TypeVar("T")
Connection = sqlite3.Connection
"""What an operation is handed: a connection inside a transaction of ours. It must not commit or roll back."""

BUSY_SECONDS = 30.0
MOST_PER_COMMIT = 256


class _Operation(Generic[T]):
    """A function to run in the writer thread, and where its result goes."""

    __slots__ = ("durable", "error", "function", "future", "loop", "result")

    def __init__(
        self,
        function: Callable[[Connection], T],
        durable: bool,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[T],
    ) -> None:
        self.function = function
        self.durable = durable
        self.loop = loop
        self.future = future
        self.result: T | None = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Hand the result over; runs in the event loop."""
        if self.future.done():
            return
        if isinstance(self.error, StopIteration):  # which no future accepts
            self.future.set_exception(RuntimeError("an operation raised StopIteration"))
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # pyright: ignore[reportArgumentType]  # set by the writer


class Database:
    """A SQLite file in WAL mode, opened by this process.

    Args:
        path: The file; missing parent folders are created at `open`.
        migrations: SQL scripts in order; the file's `user_version` counts those applied. Never edit one that
            has been released: add another.
        busy_seconds: How long to wait for another process's lock before a retryable `StorageError`; 30 by default.
    """

    def __init__(self, path: Path, *, migrations: Sequence[str], busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._migrations = migrations
        self._busy_seconds = busy_seconds
        self._operations: SimpleQueue[_Operation[Any] | None] = SimpleQueue()
        self._opening = asyncio.Lock()
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reader: Connection | None = None
        self._watcher: Connection | None = None
        self._is_flushing = True

    @property
    def is_open(self) -> bool:
        """Whether `open` has succeeded and `close` has not been called since."""
        return self._thread is not None

    async def open(self) -> None:
        """Open the file, creating and migrating it. Idempotent.

        Raises:
            StorageError: The folder or file cannot be used, or was written by a newer version.
        """
        if self._thread is not None:
            return
        async with self._opening:
            if self._thread is None:
                opening = asyncio.ensure_future(asyncio.to_thread(self._open_connections))
                try:
                    self._start(*await asyncio.shield(opening))
                except asyncio.CancelledError:
                    opening.add_done_callback(_close_unused)  # the thread goes on, and nobody wants what it opens
                    raise

    def _start(self, writer: Connection, reader: Connection, watcher: Connection) -> None:
        self._reader, self._watcher = reader, watcher
        self._readers = ThreadPoolExecutor(1, thread_name_prefix=f"mahavishnu-read-{self.path.name}")
        self._thread = threading.Thread(
            target=self._write_until_closed,
            args=(writer,),
            name=f"mahavishnu-write-{self.path.name}",
            daemon=True,
        )
        self._thread.start()

    async def close(self) -> None:
        """Finish the operations that were submitted, then close. Idempotent."""
        async with self._opening:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._operations.put(None)
                await asyncio.shield(asyncio.to_thread(self._finish, thread))

    def _finish(self, thread: threading.Thread) -> None:
        thread.join()
        readers, reader, watcher = self._readers, self._reader, self._watcher
        self._reader = self._watcher = self._readers = None
        if readers is not None:
            readers.shutdown()
        for connection in (reader, watcher):
            if connection is not None:
                connection.close()

    def submit(self, function: Callable[[Connection], T], *, durable: bool = True) -> asyncio.Future[T]:
        """Queue an operation for the writer thread and return its future at once.

        Operations run in the order submitted. The operation runs even if the future is cancelled.

        Args:
            function: Runs in the writer thread, inside a transaction; what it returns becomes the result. It
                runs again if a neighbour made the commit fail, so it must have no effect but on the database.
            durable: Whether the future may resolve only once the disk has it (default).
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._thread is None:
            future.set_exception(self._closed())
        else:
            self._operations.put(_Operation(function, durable, loop, future))
        return future

    async def write(self, function: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Run an operation in the writer thread; see `submit`."""
        return await self.submit(function, durable=durable)

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Run a query in the reader thread; it sees every commit finished before.

        Raises:
            StorageError: The file cannot be read.
        """
        readers, reader = self._readers, self._reader
        if readers is None or reader is None:
            raise self._closed()
        try:
            return await asyncio.get_running_loop().run_in_executor(readers, function, reader)
        except sqlite3.Error as exc:
            raise self._translated(exc) from exc

    def version(self) -> int:
        """Return a number that changes when any connection of any process commits. Takes microseconds.

        Raises:
            StorageError: The database is closed.
        """
        return self.peek("PRAGMA data_version")

    def peek(self, query: str) -> int:
        """Return the single number that a query of a few microseconds gives, in the calling thread.

        Raises:
            StorageError: The database is closed, or cannot be read.
        """
        if self._watcher is None:
            raise self._closed()
        try:
            return int(self._watcher.execute(query).fetchone()[0])
        except sqlite3.Error as exc:
            raise self._translated(exc) from exc

    # --- the writer thread ---

    def _write_until_closed(self, connection: Connection) -> None:
        closing = False
        while not closing:
            batch, closing = self._next_batch()
            durable = [operation for operation in batch if operation.durable]
            if not durable or len(durable) == len(batch):
                self._commit(connection, batch, flush=bool(durable))
                _deliver(batch)
                continue
            # Those that need no flush do not wait for it: a job can start while its enqueueing reaches the disk.
            self._commit(connection, batch, flush=False)
            _deliver([operation for operation in batch if not operation.durable])
            committed = [operation for operation in durable if operation.error is None]
            if committed:
                self._flush(connection, committed)
            _deliver(durable)
        connection.close()

    def _next_batch(self) -> tuple[list[_Operation[Any]], bool]:
        """Wait for an operation; return it with those behind it, and whether the database is being closed."""
        first = self._operations.get()
        if first is None:
            return [], True
        more, closing = self._waiting_batch(MOST_PER_COMMIT - 1)
        return [first, *more], closing

    def _waiting_batch(self, most: int) -> tuple[list[_Operation[Any]], bool]:
        """Return the operations that are waiting now, and whether the database is being closed."""
        batch: list[_Operation[Any]] = []
        try:
            while len(batch) < most:
                operation = self._operations.get_nowait()
                if operation is None:
                    return batch, True
                batch.append(operation)
        except Empty:
            pass
        return batch, False

    def _commit(self, connection: Connection, batch: Sequence[_Operation[Any]], *, flush: bool) -> None:
        """Run a batch in one transaction."""
        has_begun = False
        try:
            self._set_flush(connection, flush)
            self._begin(connection)
            has_begun = True
            self._run(connection, batch)
            connection.execute("COMMIT")  # fails if SQLite rolled back by itself and an operation hid it
        except BaseException as exc:  # whatever it is, this thread lives on and the callers hear of it
            _roll_back(connection)
            if has_begun and len(batch) > 1:
                self._commit_each(connection, batch, flush=flush)
                return
            error = self._translated(exc) if isinstance(exc, sqlite3.Error) else exc
            for operation in batch:
                operation.error = error

    def _commit_each(self, connection: Connection, batch: Sequence[_Operation[Any]], *, flush: bool) -> None:
        """Try each operation of a failed commit by itself, so that only those fail that cannot be done."""
        for operation in batch:
            if operation.error is None:
                self._commit(connection, [operation], flush=flush)

    def _flush(self, connection: Connection, batch: Sequence[_Operation[Any]]) -> None:
        """Bring what is committed to the disk: a commit that flushes takes all commits before it along."""
        mark = _Operation(self._write_same_version, True, batch[0].loop, batch[0].future)
        self._commit(connection, [mark], flush=True)
        for operation in batch:
            operation.error = mark.error

    def _write_same_version(self, connection: Connection) -> None:
        """Write the smallest thing there is: without a change SQLite would not flush."""
        connection.execute(f"PRAGMA user_version={len(self._migrations)}")

    def _set_flush(self, connection: Connection, flush: bool) -> None:
        if flush != self._is_flushing:
            connection.execute(f"PRAGMA synchronous={'FULL' if flush else 'NORMAL'}")
            self._is_flushing = flush

    def _run(self, connection: Connection, batch: Sequence[_Operation[Any]]) -> None:
        if len(batch) == 1:
            batch[0].result = batch[0].function(connection)
            return
        for operation in batch:
            self._run_in_savepoint(connection, operation)

    def _begin(self, connection: Connection) -> None:
        """Take the write lock. SQLite's own waiting is unfair, so we wait a random short while and ask again."""
        give_up = monotonic() + self._busy_seconds
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up:
                    raise
                sleep(0.0005 + random() * 0.002)  # noqa: S311  # spreading contenders, not a secret
            else:
                return

    def _run_in_savepoint(self, connection: Connection, operation: _Operation[Any]) -> None:
        connection.execute("SAVEPOINT operation")
        try:
            operation.result = operation.function(connection)
        except BaseException as exc:
            if not connection.in_transaction:  # SQLite rolled everything back itself: a full disk, an I/O error
                raise
            connection.execute("ROLLBACK TO operation")
            operation.error = self._translated(exc) if isinstance(exc, sqlite3.Error) else exc
        connection.execute("RELEASE operation")

    # --- opening ---

    def _open_connections(self) -> tuple[Connection, Connection, Connection]:
        """Open the writer, the reader and the watcher, or none of them."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StorageError(
                str(self.path.parent),
                f"the state folder cannot be made: {exc.strerror}",
                "choose another `state_dir`",
            ) from exc
        opened: list[Connection] = []
        try:
            opened.append(self._connect())
            self._prepare_writer(opened[0])
            opened.extend([self._connect(), self._connect()])
        except BaseException as exc:
            for connection in opened:
                connection.close()
            if isinstance(exc, sqlite3.Error):
                raise self._translated(exc) from exc
            raise
        return opened[0], opened[1], opened[2]

    def _prepare_writer(self, connection: Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StorageError(
                str(self.path),
                f"its file system cannot hold a shared database (journal mode {mode})",
                "choose a `state_dir` on a local disk",
            )
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        self._migrate(connection)
        connection.execute("PRAGMA busy_timeout=0")  # from here on `_begin` does the waiting

    def _connect(self) -> Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA fullfsync=ON")  # macOS: a plain fsync stops at the drive's own cache
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: Connection) -> None:
        if self._user_version(connection) == len(self._migrations):
            return
        self._begin(connection)
        have = self._user_version(connection)
        if have > len(self._migrations):
            raise StorageError(
                str(self.path), f"written by a newer Mahavishnu (layout {have})", "upgrade this installation"
            )
        for script in self._migrations[have:]:
            for statement in script.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(self._migrations)}")
        connection.execute("COMMIT")

    @staticmethod
    def _user_version(connection: Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    # --- errors ---

    def _closed(self) -> StorageError:
        return StorageError(str(self.path), "the database is closed", "open it first")

    def _translated(self, exc: sqlite3.Error) -> StorageError:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        problem, remedy = _PROBLEMS.get(code, (str(exc), "see the cause with --traceback"))
        return StorageError(str(self.path), problem, remedy, retryable=code in _RETRYABLE)


_RETRYABLE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
_PROBLEMS = {
    sqlite3.SQLITE_BUSY: (
        "locked by another process for too long",
        "stop the process that holds it, then try again",
    ),
    sqlite3.SQLITE_LOCKED: ("locked by another connection", "try again"),
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space; nothing accepted before is lost"),
    sqlite3.SQLITE_READONLY: ("not writable", "check its owner and mode, or choose another `state_dir`"),
    sqlite3.SQLITE_PERM: ("access denied", "check its owner and mode, or choose another `state_dir`"),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "check that the folder exists and is writable by this user",
    ),
    sqlite3.SQLITE_NOTADB: ("not a database", "move the file away, or choose another `state_dir`"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "restore it from a copy, or move it away to start anew"),
    sqlite3.SQLITE_IOERR: ("the disk reported an error", "check the disk and the file system"),
}


def _roll_back(connection: Connection) -> None:
    """Leave the transaction, if SQLite has not done so by itself."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _close_unused(opening: asyncio.Future[tuple[Connection, Connection, Connection]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        for connection in opening.result():
            connection.close()


def _deliver(batch: Sequence[_Operation[Any]]) -> None:
    """Hand results to their event loops, one wake-up per loop and commit."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Operation[Any]]] = {}
    for operation in batch:
        by_loop.setdefault(operation.loop, []).append(operation)
    for loop, operations in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, operations)
        except RuntimeError:  # the loop was closed: nobody is waiting any more
            continue


def _settle(operations: Sequence[_Operation[Any]]) -> None:
    for operation in operations:
        operation.settle()
