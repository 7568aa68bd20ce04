SELECT next_fire_us
FROM schedules
WHERE engine = :engine AND next_fire_us IS NOT NULL AND state = 'active'
ORDER BY next_fire_us
LIMIT 1
