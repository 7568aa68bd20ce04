INSERT OR REPLACE INTO dead_letter (id, queue, workflow, reason, died_ms, priority, detail, body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
