-- A state is replaced only by one that can be reached from it (model/states.py): a final state (10 and up) never,
-- a live one (0 scheduled, 1 queued, 2 running) by itself or a later one; what has run (2) is not dead (18).
INSERT INTO runs (id, job_id, task, engine, state, ends_job, schedule_id, parent_id, at_ms, ended_ms, details)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    job_id = excluded.job_id,
    task = excluded.task,
    engine = excluded.engine,
    state = excluded.state,
    ends_job = excluded.ends_job,
    schedule_id = excluded.schedule_id,
    parent_id = excluded.parent_id,
    at_ms = excluded.at_ms,
    ended_ms = excluded.ended_ms,
    details = excluded.details
WHERE runs.state < 10 AND excluded.state >= runs.state AND NOT (runs.state = 2 AND excluded.state = 18)
