"""Run one job and decide what becomes of it."""
