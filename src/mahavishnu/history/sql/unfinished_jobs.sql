-- Of the dispatched occurrences not yet known to have ended: which have a run that ends their job?
SELECT
    o.fire_us,
    o.job_id,
    EXISTS (
        SELECT 1
        FROM runs
        WHERE id > o.job_id || '.' AND id < o.job_id || '/' AND runs.job_id IS NULL AND instr(o.job_id, '.') = 0
            AND ends_job
    )
    OR EXISTS (SELECT 1 FROM runs WHERE runs.job_id = o.job_id AND ends_job) AS has_ended
FROM occurrences AS o INDEXED BY occurrences_unfinished -- the planner prefers the longer primary key
WHERE o.schedule_id = :schedule_id AND o.state = 'dispatched' AND o.ended = 0
ORDER BY o.fire_us
