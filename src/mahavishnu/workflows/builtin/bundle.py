"""Find out whether a git bundle is whole."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Protocol

from mahavishnu.errors import WorkflowError
from mahavishnu.workflows.repos import git

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from mahavishnu.workflows.repos import Repo

__all__ = ["check_bundle", "digest_bundle"]

_CHUNK_BYTES = 1 << 20


class _Hash(Protocol):
    @property
    def digest_size(self) -> int: ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


async def check_bundle(repo: Repo, bundle: Path) -> None:
    """Have git read the bundle's header and make sure that it needs nothing beside itself.

    Raises:
        WorkflowError: It is damaged, or lacks history.
    """
    answer = await git(repo, "bundle", "verify", str(bundle))
    if not answer.ok:
        said = answer.stderr.strip().rpartition("\n")[2]
        raise WorkflowError(f"the new bundle of {os.fspath(repo)} does not verify: {said}")


def digest_bundle(bundle: Path) -> tuple[str, int]:
    """Read the whole bundle back from the disk and return its SHA-256 (hex) and its size in bytes.

    On the way the checksum at the end of its pack is compared with what it is a checksum of, which
    `git bundle verify` does not do. Blocks; memory use does not depend on the size.

    Raises:
        WorkflowError: The checksum differs: what is on the disk is not what git wrote.
    """
    whole = hashlib.sha256()
    with bundle.open("rb") as file:
        pack = _read_header(file, whole)
        expected = _read_pack(file, whole, pack)
        size = file.tell()
    if pack.digest() != expected:
        raise WorkflowError(f"the new bundle {bundle} is damaged: its checksum is wrong; check the disk it is on")
    return whole.hexdigest(), size


def _read_header(file: BinaryIO, whole: _Hash) -> _Hash:
    """Read up to the blank line before the pack; return the hash its checksum is made with."""
    name = "sha1"
    for line in iter(file.readline, b""):
        whole.update(line)
        if line.strip() == b"@object-format=sha256":
            name = "sha256"
        if line == b"\n":
            break
    return hashlib.new(name, usedforsecurity=False)


def _read_pack(file: BinaryIO, whole: _Hash, pack: _Hash) -> bytes:
    """Feed both hashes to the end of the file and return the last bytes, the checksum `pack` leaves out."""
    held = b""
    while chunk := file.read(_CHUNK_BYTES):
        whole.update(chunk)
        held += chunk
        pack.update(held[: -pack.digest_size])
        held = held[-pack.digest_size :]
    return held
