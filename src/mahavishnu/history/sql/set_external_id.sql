UPDATE schedules SET external_id = :external_id WHERE id = :id
