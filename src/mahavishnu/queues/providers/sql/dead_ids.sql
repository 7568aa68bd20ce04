SELECT id FROM dead_letter WHERE id IN (SELECT value FROM json_each(?1))
