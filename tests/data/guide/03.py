# Create Prefect deployment with schedule
from prefect import flow
from prefect.deployments import Deployment

@flow(name="daily-code-sweep")
async def daily_sweep():
    repos = app.get_repos()
    result = await app.execute_workflow(
        task={"type": "code_sweep"},
        adapter_name="prefect",
        repos=repos,
    )
    return result

# Deploy with daily 2 AM schedule
deployment = Deployment.build(
    flow=daily_sweep,
    name="daily-sweep-prod",
    schedule=CronSchedule(cron="0 2 * * *"),
    work_pool_name="mahavishnu-pool",
)
await deployment.apply()
