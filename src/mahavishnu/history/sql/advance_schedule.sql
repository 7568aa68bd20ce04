UPDATE schedules
SET next_fire_us = :next_us,
    last_fire_us = coalesce(:last_us, last_fire_us),
    state = iif(:next_us IS NULL, 'ended', state)
WHERE id = :id AND revision = :revision AND next_fire_us IS :expected_us AND state = 'active'
