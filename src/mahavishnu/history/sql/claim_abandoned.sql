UPDATE occurrences
SET owner = :owner, lease_until_us = :lease_until_us
WHERE (schedule_id, fire_us) IN (
    SELECT schedule_id, fire_us
    FROM occurrences
    WHERE state = 'claimed' AND lease_until_us <= :now_us
    ORDER BY fire_us
    LIMIT :limit
)
RETURNING schedule_id, fire_us, state, until_us, count, reason, job_id, decided_us, owner, revision
