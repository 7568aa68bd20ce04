SELECT schedule_id, fire_us, state, until_us, count, reason, job_id, decided_us, owner, revision
FROM occurrences
WHERE schedule_id = :schedule_id
ORDER BY fire_us DESC
LIMIT :limit
