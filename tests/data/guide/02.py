# Schedule secret rotation via Google Cloud Tasks
result = await scheduler.enqueue_workflow(
    "rotate_secrets",
    queue_provider="cloudtasks",
    metadata={"schedule_time": "2026-02-07T02:00:00Z"},
)

# Enqueue backup job to Redis
result = await scheduler.enqueue_workflow(
    "daily_backup",
    queue_provider="redis",
    context={"repos": ["/path/to/repo"]},
)
