SELECT id, revision FROM schedules WHERE engine = :engine
