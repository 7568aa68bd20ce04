INSERT OR REPLACE INTO schedules
    (id, task, engine, state, revision, next_fire_us, last_fire_us, created_us, updated_us, external_id, definition)
VALUES
    (:id, :task, :engine, :state, :revision, :next_fire_us, :last_fire_us, :created_us, :updated_us, :external_id, :definition)
