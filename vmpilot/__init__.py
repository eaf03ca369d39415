"""VMPilot's database: its schema, and the migrator that keeps it."""

__version__ = "0.7.0"
