SELECT id, job_id, task, engine, state, schedule_id, parent_id, details
FROM runs
WHERE parent_id = :parent_id
    AND at_ms >= :since_ms
    AND (:schedule_id IS NULL OR schedule_id = :schedule_id)
    AND (:task IS NULL OR task = :task)
    AND (:engine IS NULL OR engine = :engine)
    AND (:state IS NULL OR state = :state)
ORDER BY at_ms DESC, rowid DESC
LIMIT :limit
