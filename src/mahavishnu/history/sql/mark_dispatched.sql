-- An occurrence that was taken away meanwhile (its schedule was deleted) did become a job all the same.
INSERT INTO occurrences
    (schedule_id, fire_us, state, until_us, count, reason, job_id, decided_us, owner, revision)
VALUES
    (:schedule_id, :fire_us, 'dispatched', :until_us, :count, :reason, :job_id, :decided_us, :owner, :revision)
ON CONFLICT (schedule_id, fire_us) DO UPDATE SET
    state = 'dispatched',
    job_id = excluded.job_id,
    decided_us = excluded.decided_us,
    lease_until_us = NULL
WHERE occurrences.state IN ('claimed', 'held')
