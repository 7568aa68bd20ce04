characteristics = TaskCharacteristics(
    frequency="low",
    visibility="user-facing",
    complexity="dag",
    durability="persistent",
    infrastructure="distributed",
)

scheduler = classify_task("my_workflow", characteristics)
# Returns: "prefect"
