SELECT schedule_id, fire_us, state, until_us, count, reason, job_id, decided_us, owner, revision
FROM occurrences
WHERE state = 'held'
ORDER BY fire_us, schedule_id
