"""The algorithms of a configuration, made when a scene first uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pairec_fast.config import AlgoConfig, RankConfig
from pairec_fast.config.sinks import unknown
from pairec_fast.errors import ConfigError
from pairec_fast.remote import FUNCTIONS, Server
from pairec_fast.score.easyrec import EasyRec
from pairec_fast.score.forest import Model
from pairec_fast.score.lookup import Lookup
from pairec_fast.snapshot import Snapshot

Algorithm = Model | Lookup | EasyRec
Servers = dict[AlgoConfig, Server]
TYPES = ("LIGHTGBM", "LOOKUP", "EAS")
ENDPOINTS = ("", "DEFAULT", "DIRECT", "DOCKER")
PROCESSOR = "EasyRec"
_CLOUD = ("FAISS", "SELDON", "TFSERVING")


class Algorithms:
    """By name. `models` has the forests that were asked for; `servers` outlives a snapshot, with its connections."""

    def __init__(self, confs: Sequence[AlgoConfig], snapshot: Snapshot, servers: Servers) -> None:
        self._confs = {conf.name: conf for conf in confs}
        self._snapshot, self._servers = snapshot, servers
        self.models: dict[str, Model] = {}

    def of(self, name: str, rank: RankConfig, where: str) -> Algorithm:
        """The algorithm `name` of the rank configuration at `where`.

        Raises:
            ConfigError: none of that name, or one that cannot run here; the message says what could.
        """
        conf = _conf(self._confs, name, where)
        if conf.type == "LIGHTGBM" and conf.light_gbm_conf is not None:
            if name not in self.models:
                self.models[name] = Model(name, self._snapshot, conf.light_gbm_conf.model)
            return self.models[name]
        if conf.type == "LOOKUP":
            if conf.lookup_conf is None or not conf.lookup_conf.field_name:
                raise ConfigError(f'AlgoConfs.{name}.LookupConf: missing; it names a feature, as {{"FieldName": ...}}')
            return Lookup(name, conf.lookup_conf.field_name)
        if conf.type == "EAS":
            if rank.processor != PROCESSOR:
                raise ConfigError(
                    f'{where}.Processor: expected "{PROCESSOR}", the processor of {name}, got "{rank.processor}"'
                )
            return EasyRec(server_of(self._confs, name, where, self._servers), rank)
        raise ConfigError(f"AlgoConfs.{name}.{_why_not(conf)}")


def server_of(confs: Mapping[str, AlgoConfig], name: str, where: str, servers: Servers) -> Server:
    """The model server `name`, for the rank configuration at `where`; one of `servers`, where new ones are kept.

    Raises:
        ConfigError: as `Algorithms.of`.
    """
    conf = _conf(confs, name, where)
    if conf.type in ("LIGHTGBM", "LOOKUP"):
        raise ConfigError(f'AlgoConfs.{name}.Type: {where} asks a model server, "EAS"; got "{conf.type}"')
    if conf.type != "EAS" or conf.eas_conf is None:
        raise ConfigError(f"AlgoConfs.{name}.{_why_not(conf)}")
    if conf not in servers:
        servers[conf] = _server(conf)
    return servers[conf]


def _conf(confs: Mapping[str, AlgoConfig], name: str, where: str) -> AlgoConfig:
    try:
        return confs[name]
    except KeyError:
        raise ConfigError(f"{where}: {unknown(name, confs)}") from None


def _why_not(conf: AlgoConfig) -> str:
    """The key that is wrong, and what would be right."""
    if conf.type == "LIGHTGBM":
        return 'LightGBMConf: missing; it names a forest of the snapshot, as {"Model": ...}'
    if conf.type == "EAS":
        return 'EasConf: missing; it says where the server is, as {"Url": ..., "Processor": "EasyRec"}'
    if conf.type in _CLOUD:
        return (
            f'Type: "{conf.type}" is not served here; use "LIGHTGBM" with a forest of the snapshot, or "EAS" with '
            f"Processor {PROCESSOR} for a model server"
        )
    return f"Type: {unknown(conf.type, TYPES)}"


def _server(conf: AlgoConfig) -> Server:
    """Raises ConfigError: a setting that no server here can have."""
    eas, where = conf.eas_conf, f"AlgoConfs.{conf.name}.EasConf"
    assert eas is not None
    if eas.processor != PROCESSOR:
        raise ConfigError(f'{where}.Processor: only "{PROCESSOR}" is served here, got "{eas.processor}"')
    if eas.endpoint_type not in ENDPOINTS:
        known = ", ".join(f'"{one}"' for one in ENDPOINTS)
        raise ConfigError(f'{where}.EndpointType: "{eas.endpoint_type}" is not served here; use one of {known}')
    if eas.response_func_name not in FUNCTIONS:
        raise ConfigError(f"{where}.ResponseFuncName: {unknown(eas.response_func_name, FUNCTIONS)}")
    try:
        return Server(
            conf.name, eas.url, eas.auth, eas.response_func_name, milliseconds=eas.timeout, tries=eas.retry_times
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
