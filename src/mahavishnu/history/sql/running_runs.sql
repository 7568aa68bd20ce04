SELECT id, job_id, task, engine, state, schedule_id, parent_id, details
FROM runs
WHERE state = 2 AND state <> 10
ORDER BY at_ms
