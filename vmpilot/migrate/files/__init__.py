"""What is written: the migration files, read and checked.

Pure, but for reading files: no database, no clock and no printing may enter here.
"""
