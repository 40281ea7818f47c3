"""What grows. Each module has one function, ``contend(task, turns)``; a contender is a module with an amount of work."""
