"""Names of the contract, loaded from their files on first use."""

from .augmenting import (
    AugmentConfig as AugmentConfig,
)
from .augmenting import (
    Draws as Draws,
)
from .augmenting import (
    GeometricAugment as GeometricAugment,
)
from .augmenting import (
    PictureAugment as PictureAugment,
)
from .augmenting import (
    Scope as Scope,
)
from .augmenting import (
    WindowAugment as WindowAugment,
)
from .cache import (
    Cache as Cache,
)
from .calls import (
    ByColumn as ByColumn,
)
from .calls import (
    ByLimits as ByLimits,
)
from .calls import (
    Call as Call,
)
from .calls import (
    Distrusts as Distrusts,
)
from .calls import (
    FactorLoss as FactorLoss,
)
from .calls import (
    Generated as Generated,
)
from .calls import (
    Guide as Guide,
)
from .calls import (
    LearnsApart as LearnsApart,
)
from .calls import (
    PlanResult as PlanResult,
)
from .calls import (
    Revises as Revises,
)
from .data import (
    DataSpec as DataSpec,
)
from .data import (
    Windows as Windows,
)
from .planning import (
    Objective as Objective,
)
from .planning import (
    ObjectiveConfig as ObjectiveConfig,
)
from .planning import (
    Planner as Planner,
)
from .planning import (
    PlannerConfig as PlannerConfig,
)
from .protocols import (
    ActionConfig as ActionConfig,
)
from .protocols import (
    ActionRepresentation as ActionRepresentation,
)
from .protocols import (
    Category as Category,
)
from .protocols import (
    Encoder as Encoder,
)
from .protocols import (
    EncoderConfig as EncoderConfig,
)
from .protocols import (
    Estimator as Estimator,
)
from .protocols import (
    EstimatorConfig as EstimatorConfig,
)
from .protocols import (
    Exposure as Exposure,
)
from .protocols import (
    Family as Family,
)
from .protocols import (
    Layout as Layout,
)
from .protocols import (
    Meanings as Meanings,
)
from .protocols import (
    Standing as Standing,
)
from .protocols import (
    Substrate as Substrate,
)
from .protocols import (
    SubstrateConfig as SubstrateConfig,
)
from .protocols import (
    Trunk as Trunk,
)
from .protocols import (
    TrunkConfig as TrunkConfig,
)
from .requests import (
    Requests as Requests,
)
from .requests import (
    VariableConfig as VariableConfig,
)
from .scales import (
    Grid as Grid,
)
from .scales import (
    Ladder as Ladder,
)
from .scales import (
    Scale as Scale,
)
from .scales import (
    cover as cover,
)
from .scales import (
    halved as halved,
)
from .scales import (
    tokens_of as tokens_of,
)
from .specs import (
    ACTION as ACTION,
)
from .specs import (
    CLOCK as CLOCK,
)
from .specs import (
    ActionSpec as ActionSpec,
)
from .specs import (
    CameraSpec as CameraSpec,
)
from .specs import (
    ObservationSpec as ObservationSpec,
)
from .specs import (
    require_same as require_same,
)
from .streams import (
    SYMBOLS as SYMBOLS,
)
from .streams import (
    Camera as Camera,
)
from .streams import (
    Past as Past,
)
from .streams import (
    Reading as Reading,
)
from .streams import (
    ReadingKind as ReadingKind,
)
from .streams import (
    Role as Role,
)
from .streams import (
    RowNoise as RowNoise,
)
from .streams import (
    Sensor as Sensor,
)
from .streams import (
    Shows as Shows,
)
from .streams import (
    State as State,
)
from .streams import (
    StreamSpec as StreamSpec,
)
from .streams import (
    Target as Target,
)
from .streams import (
    masked_mean as masked_mean,
)
from .streams import (
    row_seed as row_seed,
)
from .types import (
    Aim as Aim,
)
from .types import (
    Batch as Batch,
)
from .types import (
    Budget as Budget,
)
from .types import (
    Carries as Carries,
)
from .types import (
    Carry as Carry,
)
from .types import (
    Forecast as Forecast,
)
from .types import (
    Losses as Losses,
)
from .types import (
    Observation as Observation,
)
from .types import (
    Perceived as Perceived,
)
from .types import (
    WindowSpec as WindowSpec,
)
from .types import (
    choose_rows as choose_rows,
)
from .types import (
    map_tensors as map_tensors,
)
from .types import (
    to_device as to_device,
)
