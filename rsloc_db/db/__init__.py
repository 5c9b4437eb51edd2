"""The database: the server, the tables and the typed functions around the SQL. It knows no pixels."""
