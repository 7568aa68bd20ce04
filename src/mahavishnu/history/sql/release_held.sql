UPDATE occurrences
SET state = 'claimed', owner = :owner, lease_until_us = :lease_until_us, decided_us = :now_us
WHERE schedule_id = :schedule_id AND fire_us = :fire_us AND state = 'held'
RETURNING schedule_id, fire_us, state, until_us, count, reason, job_id, decided_us, owner, revision
