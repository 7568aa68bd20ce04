await scheduler.schedule_internal_task(
    my_task,
    trigger_type="interval",
    seconds=60,
    id="my-unique-task-id",  # Prevents duplicates
)
