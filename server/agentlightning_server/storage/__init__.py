"""SQLite: the only place with SQL. Imports `lifecycle` and the generated messages; tells of commits by callback."""
