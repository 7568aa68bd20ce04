INSERT OR REPLACE INTO processes (id, kind, started_ms, seen_ms, details) VALUES (?, ?, ?, ?, ?)
