"""Worker processes: functions that run in a process of their own."""
