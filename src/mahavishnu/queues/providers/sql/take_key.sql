-- Returns the key if it was free or had expired.
INSERT INTO unique_key (key, id, expires_ms) VALUES (?1, ?2, ?3)
ON CONFLICT (key) DO UPDATE SET id = excluded.id, expires_ms = excluded.expires_ms WHERE expires_ms <= ?4
RETURNING key
