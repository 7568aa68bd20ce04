"""What can be run and on what: registered workflows, their signatures, and the repository catalogue."""
