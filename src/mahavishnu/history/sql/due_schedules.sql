SELECT id, task, engine, state, revision, next_fire_us, last_fire_us, created_us, updated_us, external_id, definition
FROM schedules
WHERE engine = :engine AND next_fire_us <= :now_us AND state = 'active'
ORDER BY next_fire_us, id
LIMIT :limit
