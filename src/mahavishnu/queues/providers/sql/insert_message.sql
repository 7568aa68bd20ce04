INSERT INTO message (id, queue, priority, due_ms, body) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING
