"""RetrievalFormer from Python: what ``__all__`` names is the public interface, everything else is internal.

A listed name keeps its meaning until one minor version has announced it as deprecated; arguments may be added, with defaults. The
packages ``rf_*`` behind it change without notice.
"""

from retrievalformer.bundle import Bundle, Event, Recommendation, load_bundle
from retrievalformer.workspace import Workspace, evaluate
from rf_platform.dataset import Dataset
from rf_platform.errors import (
    ConfigError,
    CorruptError,
    DataError,
    NotFoundError,
    RfError,
    RunError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from rf_training.callbacks import (
    Callback,
    EpochReport,
    MlflowTracker,
    OptunaPruning,
    RunReport,
    StepReport,
    StopTraining,
    WandbTracker,
)
from rf_training.config import Recipe
from rf_training.evaluation import Jagged, Scorer
from rf_training.loading.histories import History, HistoryBatch, HistoryDataset, collate_histories
from rf_training.model.blocks import Block, BlockSize, Sight, TowerKind
from rf_training.model.fusion import Fusion, FusionSize
from rf_training.objective import Contrast, Sampler
from rf_training.trainer import TrainResult

__all__ = [
    "Block",
    "BlockSize",
    "Bundle",
    "Callback",
    "ConfigError",
    "Contrast",
    "CorruptError",
    "DataError",
    "Dataset",
    "EpochReport",
    "Event",
    "Fusion",
    "FusionSize",
    "History",
    "HistoryBatch",
    "HistoryDataset",
    "Jagged",
    "MlflowTracker",
    "NotFoundError",
    "OptunaPruning",
    "Recipe",
    "Recommendation",
    "RfError",
    "RunError",
    "RunReport",
    "Sampler",
    "Scorer",
    "Sight",
    "StepReport",
    "StopTraining",
    "TowerKind",
    "TrainResult",
    "UnavailableError",
    "UntrustedError",
    "UsageError",
    "WandbTracker",
    "Workspace",
    "collate_histories",
    "evaluate",
    "load_bundle",
]
