INSERT OR IGNORE INTO requests (id, kind, target, asked_ms, job_id) VALUES (?, ?, ?, ?, ?)
