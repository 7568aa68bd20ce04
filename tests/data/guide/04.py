await scheduler.schedule_internal_task(
    health_check,
    trigger_type="interval",
    seconds=30,
)
