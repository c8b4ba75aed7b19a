"""How it looks: tables, JSON, times, a tree of spans on an axis. Asks no store."""
