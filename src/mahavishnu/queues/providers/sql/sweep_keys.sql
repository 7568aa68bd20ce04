DELETE FROM unique_key WHERE key IN (
    SELECT key FROM unique_key WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2
)
