async with scheduler.lifecycle():
    # Schedulers are running
    # Do your work here
    pass
# Automatically cleaned up
