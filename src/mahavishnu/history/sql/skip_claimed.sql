INSERT INTO occurrences (schedule_id, fire_us, state, until_us, count, reason, decided_us, owner, revision)
VALUES (:schedule_id, :fire_us, 'skipped', :until_us, :count, :reason, :decided_us, :owner, :revision)
ON CONFLICT (schedule_id, fire_us) DO UPDATE SET
    state = 'skipped',
    reason = excluded.reason,
    decided_us = excluded.decided_us,
    lease_until_us = NULL
WHERE occurrences.state IN ('claimed', 'held')
