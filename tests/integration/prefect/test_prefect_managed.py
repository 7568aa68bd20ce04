"""The engine with a server of its own: found by other processes, stopped with its runs, started again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mahavishnu.scheduler.loading import load_app

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """
app = "managed_shop:app"
state_dir = "state"

[prefect]
enabled = true
"""
SHOP = """
from pathlib import Path
from mahavishnu import MahavishnuApp

app = MahavishnuApp(config=Path(__file__).with_name("mahavishnu.toml"))
other = MahavishnuApp(config=Path(__file__).with_name("mahavishnu.toml"))

for each in (app, other):

    @each.workflow("count")
    async def count(to: int) -> list[int]:
        return list(range(to))
"""


@pytest.mark.timeout(150)  # two starts of a server and a worker: 25 s alone, twice that on a busy machine
async def test_a_managed_server_serves_others_and_comes_back_after_a_stop(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schedule made through another app runs; after a stop nothing answers; after a start it is there and runs."""
    assert state_dir == tmp_path / "state"
    (tmp_path / "mahavishnu.toml").write_text(SETTINGS)
    (tmp_path / "managed_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    app = load_app("managed_shop:app", tmp_path)
    other = load_app("managed_shop:other", tmp_path)
    try:
        async with app.scheduler.lifecycle():
            await other.scheduler.schedule("count", cron="0 1 * * *", engine="prefect", context={"to": 3})
            assert (await other.runtime.prefect.health()).ready
        assert "no Prefect server is running" in (await other.runtime.prefect.health()).detail
        async with app.scheduler.lifecycle():
            job = await other.scheduler.run_now("count")
            async with asyncio.timeout(40):
                while not (ended := await other.runtime.history.ended_jobs([job.job_id])):
                    await other.runtime.history.changed(within=timedelta(seconds=0.2))
        assert ended[job.job_id].result == "[0,1,2]"
    finally:
        await other.runtime.close()
