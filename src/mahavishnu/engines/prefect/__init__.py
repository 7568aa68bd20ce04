"""Work that people watch: deployments, work pools and flow runs on a Prefect 3 server.

`server`, `process` and `guard` need the standard library only, so a server can be started before the slow
import of Prefect; every other module here imports Prefect and is itself imported only when it is needed.
"""
