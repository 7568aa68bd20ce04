SELECT id, kind, target, asked_ms, job_id FROM requests WHERE kind = :kind ORDER BY asked_ms, id
