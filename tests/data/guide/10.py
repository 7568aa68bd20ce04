async def my_scheduled_task():
    try:
        # Do work
        pass
    except Exception as e:
        logger.error("task_failed", error=str(e))
        # Optionally send alert
