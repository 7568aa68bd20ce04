"""Values without behaviour: what tasks, jobs, runs, schedules and their states are. No input or output."""
