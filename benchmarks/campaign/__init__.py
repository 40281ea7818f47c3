"""Campaigns: kill trainings, damage inputs and fail system calls, thousands of times, and record what is unexplained."""
