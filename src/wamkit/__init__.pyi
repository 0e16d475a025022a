"""The few names that most programs need, loaded when they are first used."""

__version__: str

from .api import Budget as Budget
from .api import CollectConfig as CollectConfig
from .api import Design as Design
from .api import DesignConfig as DesignConfig
from .api import EvaluateConfig as EvaluateConfig
from .api import EvaluationConfig as EvaluationConfig
from .api import ImagineConfig as ImagineConfig
from .api import PredictConfig as PredictConfig
from .api import SweepConfig as SweepConfig
from .api import TrainConfig as TrainConfig
from .api import collect as collect
from .api import compare as compare
from .api import evaluate as evaluate
from .api import imagine as imagine
from .api import inspect as inspect
from .api import list_parts as list_parts
from .api import load as load
from .api import predict as predict
from .api import recipe as recipe
from .api import report as report
from .api import sweep as sweep
from .api import train as train
