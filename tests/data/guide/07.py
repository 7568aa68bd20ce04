# health_check every 30s
await scheduler.schedule_internal_task(
    health_check,
    trigger_type="interval",
    seconds=30,
)

# metrics every hour
await scheduler.schedule_internal_task(
    collect_metrics,
    trigger_type="cron",
    hour="*",
)
