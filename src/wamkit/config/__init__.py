"""Configs: typed values with ranges, from YAML and the command line; an unknown key or choice is refused by name."""

from wamkit.config.command_line import parse
from wamkit.config.comparing import config_hash
from wamkit.config.decoding import decode, encode
from wamkit.config.files import read_config
from wamkit.config.values import Config

__all__ = ["Config", "config_hash", "decode", "encode", "parse", "read_config"]
