"""Tests of steering schedules through the front door."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mahavishnu.scheduler.app import MahavishnuApp
from mahavishnu.testing.clock import FakeClock


@pytest.mark.parametrize("engine", ["apscheduler", "oneiric"])
async def test_resumed_schedule_has_a_next_time_that_lies_ahead(engine, tmp_path, monkeypatch):
    """The in-process engine keeps no times in the ledger: one stored at resume would be told for ever."""
    monkeypatch.chdir(tmp_path)
    clock = FakeClock()
    app = MahavishnuApp(clock=clock)
    try:
        await app.scheduler.schedule("shell", every=timedelta(minutes=1), engine=engine, context={"command": "true"})
        assert (await app.scheduler.pause_schedule("shell")).next_fire_at is None
        resumed = await app.scheduler.resume_schedule("shell")
        assert resumed.next_fire_at == clock.now() + timedelta(minutes=1)
        if engine == "apscheduler":
            clock.advance(timedelta(hours=1))
            assert (await app.scheduler.get_schedule("shell")).next_fire_at == clock.now() + timedelta(minutes=1)
    finally:
        await app.runtime.close()
