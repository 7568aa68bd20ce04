-- A run's id usually begins with its job's id and a dot, and job_id is stored only where it does not.
SELECT id, job_id, task, engine, state, schedule_id, parent_id, details, at_ms, rowid AS place
FROM runs
WHERE id > :job_id || '.' AND id < :job_id || '/' AND job_id IS NULL AND instr(:job_id, '.') = 0
UNION ALL
SELECT id, job_id, task, engine, state, schedule_id, parent_id, details, at_ms, rowid
FROM runs
WHERE job_id = :job_id
ORDER BY at_ms DESC, place DESC
