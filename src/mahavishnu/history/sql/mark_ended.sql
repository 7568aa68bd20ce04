UPDATE occurrences SET ended = 1 WHERE schedule_id = ? AND fire_us = ? AND job_id = ? AND state = 'dispatched'
