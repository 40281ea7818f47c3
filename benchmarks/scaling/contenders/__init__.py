"""What grows. Each module has one function, ``contend(task, turns)``; a contender is a module and an amount of work."""
