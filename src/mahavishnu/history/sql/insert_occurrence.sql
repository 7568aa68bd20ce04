-- A fire time that was decided in an earlier life of the schedule (deleted and made again since) may come again.
INSERT INTO occurrences
    (schedule_id, fire_us, state, until_us, count, reason, decided_us, owner, lease_until_us, revision)
VALUES
    (:schedule_id, :fire_us, :state, :until_us, :count, :reason, :decided_us, :owner, :lease_until_us, :revision)
ON CONFLICT (schedule_id, fire_us) DO UPDATE SET
    state = excluded.state,
    until_us = excluded.until_us,
    count = excluded.count,
    reason = excluded.reason,
    job_id = NULL,
    decided_us = excluded.decided_us,
    owner = excluded.owner,
    lease_until_us = excluded.lease_until_us,
    revision = excluded.revision,
    ended = 0
WHERE occurrences.state IN ('dispatched', 'skipped') AND occurrences.decided_us < :created_us
