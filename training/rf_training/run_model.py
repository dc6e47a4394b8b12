"""The model of a completed run, on the device of the run."""

from rf_platform.features.encode import FeatureEncoder
from rf_platform.registry import RunRecord
from rf_training.device import AskedDevice, device_of
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model


def load_run_model(run: RunRecord, encoder: FeatureEncoder, device: AskedDevice = "auto") -> RetrievalFormer:
    """Read the best weights of a run, in evaluation mode.

    Args:
        run: a completed run.
        encoder: of its dataset.
        device: where the model is to be asked; default: where the run was trained, if that is there.

    Raises:
        ConfigError: the device that is asked for is not there.
        CorruptError: the weights are damaged.
    """
    return load_model(run.path / "best", encoder, device_of(run.config, device))
