"""The run folder: its files, its record, and where its images are."""
