SELECT id FROM message WHERE id IN (SELECT value FROM json_each(?1)) AND seq <= ?2
