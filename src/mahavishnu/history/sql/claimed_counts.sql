-- Occurrences on their way to the queue, by schedule: they count as unfinished like those that have arrived.
SELECT schedule_id, count(*)
FROM occurrences
WHERE state = 'claimed'
GROUP BY schedule_id
