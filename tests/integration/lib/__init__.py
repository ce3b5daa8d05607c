"""What the integration tests stand on; conftest.py hands it out as fixtures.

wait      polling a condition with a deadline: the only way a test here waits
cluster   a scratch PostgreSQL: initdb, start, stop, connect
sidecar   the pgstrata binary: commands, `serve`, kill -9
school    the schema of a school SaaS, and its first rows
workload  concurrent writers over that schema
wal       the commits of a run, read from its WAL by pg_waldump
rows      a tenant's rows as text, and what differs between two answers
targets   where to in history: one moment, said in pgstrata's words and in PostgreSQL's
checks    questions that several tests ask
campaign  a run, its targets, and the comparison with the oracle at each
oracle    PostgreSQL's own recovery to a target: the answer that pgstrata must equal
"""
