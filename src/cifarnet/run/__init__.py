"""The run folder: its files, its record, and what tells how to open its images again."""
