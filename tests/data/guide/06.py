await scheduler.enqueue_workflow(
    "rotate_secrets",
    queue_provider="cloudtasks",
    metadata={"schedule_time": "2026-02-07T02:00:00Z"},
)
