"""A bundle in memory, ready to answer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rf_platform.bundle import BundleManifest, read_manifest
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import FeatureSpec
from rf_serving.bundle import files
from rf_serving.index import VectorIndex, open_index
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model


@dataclass(frozen=True, eq=False, kw_only=True)
class ServedBundle:
    """Both towers, vocabularies, item vectors and index of one version.

    Shapes: N items, D width.
    """

    manifest: BundleManifest
    spec: FeatureSpec
    encoder: FeatureEncoder
    model: RetrievalFormer
    index: VectorIndex
    item_ids: list[int] | list[str]
    """[N]: id of each row of the index."""
    row_of_item: dict[int | str, int]
    item_tokens_ND: Tensor
    """What interactions with an item are made of."""
    vectors_ND: npt.NDArray[np.float32]
    """The indexed vectors, memory-mapped: read only where the index falls short."""

    @classmethod
    def open(cls, directory: Path) -> "ServedBundle":
        """Load a bundle whose checksums were verified (:func:`rf_platform.registry.check_bundle`).

        Raises:
            NotFoundError, CorruptError, ConfigError: the bundle is not there, or this version cannot read it.
        """
        manifest = read_manifest(directory)
        spec = FeatureSpec.load(directory / files.SPEC)
        encoder = FeatureEncoder.load(spec, directory / files.ENCODER)
        ids = pq.read_table(directory / files.ITEMS, columns=[spec.item.join_key])[0].to_pylist()
        return cls(
            manifest=manifest,
            spec=spec,
            encoder=encoder,
            model=load_model(directory / files.MODEL, encoder),
            index=open_index(manifest.index.kind, directory / files.INDEX),
            item_ids=ids,
            row_of_item={item: row for row, item in enumerate(ids)},
            item_tokens_ND=torch.from_numpy(np.load(directory / files.TOKENS)),
            vectors_ND=np.load(directory / files.VECTORS, mmap_mode="r"),
        )

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.manifest.name
