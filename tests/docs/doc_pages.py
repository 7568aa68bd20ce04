"""Read the pages of the documentation and do what they say."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mahavishnu.history.waiting import wait_for_jobs
from mahavishnu.model.job import EnqueuedJob
from mahavishnu.scheduler.app import MahavishnuApp
from mahavishnu.scheduler.runtime import Runtime
from mahavishnu.settings import load_settings
from mahavishnu.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = frozenset({"python", "sh", "toml", "text", "mermaid", "ini", "json"})
RUN_BY_DEFAULT = frozenset({"python", "toml"})
DONE_KINDS = frozenset({"run", "file", "background"})
MUST_SAY = frozenset({"sh", "ini", "json"})
"""Blocks in these languages run, or carry the reason why not."""
FAILS = "it fails"
"""What the note before a shell block says where the commands are meant to fail."""
SHELL_SECONDS = 50
JOB_LIMIT = timedelta(seconds=15)

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
_NOTE = re.compile(r"<!-- (?P<kind>run|not run|file|background)(?:: (?P<value>[^\n]+?))? -->\s*\Z")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page.

    Attributes:
        language: What stands after the backticks.
        text: What stands between them, without the fence's indent.
        line: Where it begins, from 1.
        kind: `run`, `not run`, `file`, `background`, or `output` for the text that the block before it writes; else
            empty.
        value: What the note before it says: the reason, the file's name, or what the command prints once it is up.
    """

    language: str
    text: str
    line: int
    kind: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its path, its text and its blocks."""

    path: Path
    text: str
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        """The path from the root of the project."""
        return str(self.path.relative_to(ROOT))

    def wants(self, what: str) -> bool:
        """Return whether the page says that it needs something beside it, such as `a worker`."""
        return f"<!-- needs: {what} -->" in self.text


def all_pages() -> list[Page]:
    """Return the README and every page under docs/."""
    return [read_page(path) for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]]


def read_page(path: Path) -> Page:
    """Return a page with its blocks."""
    text = path.read_text(encoding="utf-8")
    blocks: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(text):
        note = _NOTE.search(text[end : fence.start()])
        follows = bool(blocks) and not text[end : fence.start()].strip()
        blocks.append(_block(fence, text, note, blocks[-1] if follows else None))
        end = fence.end()
    return Page(path, text, tuple(blocks))


def _block(fence: re.Match[str], text: str, note: re.Match[str] | None, before: Block | None) -> Block:
    language = fence["language"]
    kind, value = (note["kind"], note["value"] or "") if note is not None else ("", "")
    if not kind and language in RUN_BY_DEFAULT:
        kind = "run"
    if not kind and language == "text" and before is not None and before.kind == "run":
        kind = "output"
    indent = len(fence["indent"])
    lines = [line[indent:] for line in fence["text"].splitlines(keepends=True)]
    return Block(
        language=language, text="".join(lines), line=text.count("\n", 0, fence.start()) + 1, kind=kind, value=value
    )


def links(page: Page) -> Iterator[str]:
    """Yield the targets of a page's links that stay within the project."""
    for link in _LINK.finditer(_FENCE.sub("", page.text)):
        if "://" not in link["target"]:
            yield link["target"]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = _HEADING.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# --- doing what a page says ---


@dataclass(slots=True)
class PageRun:
    """One run through a page, in the current working directory.

    Attributes:
        page: The page.
        namespace: What its Python blocks share.
        done: How many blocks have been run, by kind.
    """

    page: Page
    namespace: dict[str, Any] = field(default_factory=dict[str, Any])
    done: int = 0
    _worker: BackgroundWorker | None = None
    _commands: list[subprocess.Popen[str]] = field(default_factory=list["subprocess.Popen[str]"])

    def run(self) -> None:
        """Run every block that is to be run, in order; what a block prints is compared with the text after it."""
        module = ModuleType("page")  # workflows look up the annotations of their parameters in their module
        self.namespace = vars(module)
        sys.modules["page"] = module
        with asyncio.Runner() as runner:
            try:
                self._run_blocks(runner)
            finally:
                for command in self._commands:
                    stop_command(command)
                if self._worker is not None:
                    self._worker.stop()
                runner.run(self._close())
                del sys.modules["page"]

    def _run_blocks(self, runner: asyncio.Runner) -> None:
        printed = ""
        for block in self.page.blocks:
            try:
                if block.kind == "output":
                    assert_prints(block.text, printed)
                elif block.kind in DONE_KINDS:
                    printed = self._run_one(block, runner)
                    self.done += 1
                    self._let_the_worker_finish(runner)
            except BaseException as exc:
                exc.add_note(f"in the block at {self.page.name}:{block.line}")
                raise

    def _run_one(self, block: Block, runner: asyncio.Runner) -> str:
        if block.kind == "file":
            Path(block.value).parent.mkdir(parents=True, exist_ok=True)
            Path(block.value).write_text(block.text, encoding="utf-8")
        if block.kind == "background":
            self._commands.append(start_command(block.text, block.value))
            return ""
        match block.language:
            case "python":
                return self._run_python(block, runner)
            case "toml":
                return self._load_toml(block)
            case "sh":
                return run_shell(block.text, fails=block.value == FAILS)
            case language:
                raise AssertionError(f"no way to run a block of {language!r}")

    def _run_python(self, block: Block, runner: asyncio.Runner) -> str:
        # The lines keep their numbers, so that a traceback names those of the page.
        source = ast.parse("\n" * block.line + block.text, str(self.page.path))
        code = compile(source, str(self.page.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if block.kind == "file":
            self.namespace["__file__"] = str(Path(block.value).absolute())
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, self.namespace))
            else:
                exec(code, self.namespace)
        return output.getvalue()

    def _load_toml(self, block: Block) -> str:
        path = Path(block.value) if block.kind == "file" else Path("block.toml")
        path.write_text(block.text, encoding="utf-8")
        load_settings(path, environ={})
        return ""

    def _let_the_worker_finish(self, runner: asyncio.Runner) -> None:
        app = self.namespace.get("app")
        if not isinstance(app, MahavishnuApp) or not self.page.wants("a worker"):
            return
        if self._worker is None:
            self._worker = BackgroundWorker(app)
            self._worker.start()
        runner.run(_until_idle(app, [value.job_id for value in self.namespace.values() if _will_end(value)]))

    async def _close(self) -> None:
        app = self.namespace.get("app")
        if isinstance(app, MahavishnuApp):
            await app.runtime.close()


def _will_end(value: object) -> bool:
    return isinstance(value, EnqueuedJob) and value.scheduled_for is None and not value.deduplicated


async def _until_idle(app: MahavishnuApp, jobs: list[str]) -> None:
    """Wait until these jobs have ended, retries included, and nothing in the queues is due."""
    history, queue = await app.runtime.open_history(), await app.runtime.open_queue()
    async with asyncio.timeout(JOB_LIMIT.total_seconds()):
        await wait_for_jobs(history, jobs)
        while any(stats.ready or stats.in_flight for stats in await queue.stats()):
            await history.changed(within=timedelta(milliseconds=20))


class BackgroundWorker:
    """A worker of an app in a thread with an event loop, a ledger and queues of its own, as a process would have."""

    def __init__(self, app: MahavishnuApp) -> None:
        self._runtime = Runtime(app.settings, app.registry)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), name="page-worker")
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start it; returns when it is about to receive."""
        self._thread.start()
        assert self._ready.wait(10), "the page's worker did not start"

    def stop(self) -> None:
        """Stop it and wait for its end."""
        assert self._loop is not None
        assert self._worker is not None
        self._loop.call_soon_threadsafe(self._worker.stop)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the page's worker did not stop"

    async def _work(self) -> None:
        runtime = self._runtime
        self._loop = asyncio.get_running_loop()
        try:
            self._worker = Worker(
                await runtime.open_queue(),
                runtime.registry,
                await runtime.open_history(),
                events=runtime.events,
                make_queue=runtime.new_queue,
            )
            self._ready.set()
            await self._worker.run()
        finally:
            self._ready.set()
            await runtime.close()


def run_shell(text: str, *, fails: bool = False) -> str:
    """Run a block in a shell that stops at the first failure; returns what it wrote, or of a failure its errors."""
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", text], capture_output=True, text=True, timeout=SHELL_SECONDS, check=False
    )
    assert (done.returncode != 0) is fails, f"exit code {done.returncode}:\n{text}\n{done.stdout}{done.stderr}"
    return done.stderr if fails else done.stdout


def start_command(text: str, ready: str) -> subprocess.Popen[str]:
    """Start a command as a second terminal would, and wait until it prints `ready`."""
    command = subprocess.Popen(
        ["/bin/sh", "-c", f"exec env {text}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert command.stdout is not None
    said: list[str] = []
    for line in command.stdout:
        said.append(line)
        if ready in line:
            threading.Thread(target=command.stdout.read, name="page-command", daemon=True).start()
            return command
    raise AssertionError(f"it ended before it said {ready!r}:\n{''.join(said)}")


def stop_command(command: subprocess.Popen[str]) -> None:
    """Ask a command to stop, which it does in good order."""
    command.send_signal(signal.SIGTERM)
    try:
        assert command.wait(20) in {0, 128 + signal.SIGTERM}
    finally:
        command.kill()
        assert command.stdout is not None
        command.stdout.close()


def assert_prints(expected: str, printed: str) -> None:
    """Compare output with what the page says; `…` there stands for any text."""
    pattern = ".*?".join(re.escape(part) for part in expected.rstrip().split("…"))
    assert re.fullmatch(pattern, printed.rstrip(), re.S), f"the page says:\n{expected}\nbut it printed:\n{printed}"
