"""Bringing files and database together: where a database is, what is to be done, and doing it.

Nothing is printed here, and nothing here knows of the tools.
"""
