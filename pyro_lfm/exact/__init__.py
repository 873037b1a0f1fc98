"""Exact inference as mathematics: functions of rows and parameters that return parameters and a history."""
