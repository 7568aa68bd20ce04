SELECT id FROM unique_key WHERE key = ?1
