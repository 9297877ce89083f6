"""Where live data comes from: Redis, PostgreSQL and LMDB, behind one object an engine.

Everything that awaits runs on one background event loop, so that a walk never does. Clients are packages of the extras
`redis`, `postgres` and `lmdb`, imported when the first store of their kind is used.
"""

from pairec_fast.store.conf import HologresConf, RedisConf
from pairec_fast.store.deadline import within
from pairec_fast.store.lmdb import Lmdb
from pairec_fast.store.postgres import Postgres, composer, identifier
from pairec_fast.store.redis import Redis
from pairec_fast.store.stores import Stores

__all__ = ["HologresConf", "Lmdb", "Postgres", "Redis", "RedisConf", "Stores", "composer", "identifier", "within"]
