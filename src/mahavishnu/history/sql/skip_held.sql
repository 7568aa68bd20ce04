UPDATE occurrences
SET state = 'skipped', reason = :reason, decided_us = :now_us
WHERE schedule_id = :id AND state = 'held'
