"""One module a command beside the run itself, named like it.

Each may use what stands below; nothing below uses them, and a start-up loads none.
"""
