-- Writing the same span twice changes nothing; a longer span from the same fire time takes its place.
INSERT INTO occurrences (schedule_id, fire_us, state, until_us, count, reason, decided_us, revision)
VALUES (:schedule_id, :fire_us, 'skipped', :until_us, :count, :reason, :decided_us, 0)
ON CONFLICT (schedule_id, fire_us) DO UPDATE SET
    until_us = excluded.until_us,
    count = excluded.count,
    reason = excluded.reason
WHERE occurrences.state = 'skipped' AND occurrences.count < excluded.count
