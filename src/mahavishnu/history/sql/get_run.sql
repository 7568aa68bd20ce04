SELECT id, job_id, task, engine, state, schedule_id, parent_id, details
FROM runs
WHERE id = :id
