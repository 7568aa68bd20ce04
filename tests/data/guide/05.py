deployment = Deployment.build(
    flow=daily_sweep,
    name="daily-sweep",
    schedule=CronSchedule(cron="0 2 * * *"),
)
await deployment.apply()
