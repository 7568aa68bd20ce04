SELECT id, body, priority, due_ms FROM message WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY seq
