"""Campaigns: kill trainings, damage inputs and fail system calls many times, and record what is unexplained."""
