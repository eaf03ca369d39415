"""What is there: opening a database, its settings, its two tables, its structure as values.

The one door to SQLite, and the only place that knows drivers; no migration file may enter here.
"""
