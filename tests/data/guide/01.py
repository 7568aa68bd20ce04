# Health check every 30 seconds
await scheduler.schedule_internal_task(
    health_check,
    trigger_type="interval",
    seconds=30,
    id="health-check",
)

# Cache cleanup hourly
await scheduler.schedule_internal_task(
    cleanup_cache,
    trigger_type="cron",
    hour="*",  # Every hour
    id="cache-cleanup",
)
