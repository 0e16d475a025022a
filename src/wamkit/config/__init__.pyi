from .command_line import parse as parse
from .command_line import require_once as require_once
from .comparing import config_hash as config_hash
from .comparing import said as said
from .decoding import decode as decode
from .decoding import encode as encode
from .files import read_config as read_config
from .values import Config as Config
