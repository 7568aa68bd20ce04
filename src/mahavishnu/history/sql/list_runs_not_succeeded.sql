-- For one state other than "succeeded" (10), which has an index of its own.
SELECT id, job_id, task, engine, state, schedule_id, parent_id, details
FROM runs
WHERE state = :state
    AND state <> 10
    AND at_ms >= :since_ms
    AND (:schedule_id IS NULL OR schedule_id = :schedule_id)
    AND (:task IS NULL OR task = :task)
    AND (:engine IS NULL OR engine = :engine)
ORDER BY at_ms DESC, rowid DESC
LIMIT :limit
