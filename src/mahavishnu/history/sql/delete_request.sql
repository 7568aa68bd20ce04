DELETE FROM requests WHERE id = :id
