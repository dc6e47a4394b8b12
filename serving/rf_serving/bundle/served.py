"""A bundle in memory, ready to answer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from rf_platform.bundle import BundleManifest, files, read_manifest
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import FeatureSpec
from rf_platform.locks import Lease
from rf_serving.bundle.reranker import open_reranker
from rf_serving.index import VectorIndex, open_index
from rf_training.fold_in.rule import FoldIn
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model
from rf_training.rerank.ranker import Ranker


@dataclass(frozen=True, eq=False, kw_only=True)
class ServedBundle:
    """Both towers, vocabularies, item vectors, index and re-ranker of one version.

    Shapes: N items, D width, W width of what a re-ranker keeps of an item.
    """

    path: Path
    """Directory of the bundle."""
    lease: Lease
    """Keeps `rf gc` from removing the directory while the bundle is in memory."""
    manifest: BundleManifest
    spec: FeatureSpec
    encoder: FeatureEncoder
    model: RetrievalFormer
    index: VectorIndex
    item_ids: list[int] | list[str]
    """[N]: id of each row of the index."""
    row_of_item: dict[int | str, int]
    item_tokens_ND: npt.NDArray[np.float32]
    """Item parts of interaction tokens, memory-mapped."""
    vectors_ND: npt.NDArray[np.float32]
    """The indexed vectors, memory-mapped; the index refers to them too."""
    ranker: Ranker | None = None
    """Orders what the search finds; None in a bundle without one."""
    item_states_NW: npt.NDArray[np.floating] | None = None
    """Item states of the re-ranker, memory-mapped."""
    popularity_N: npt.NDArray[np.int64] | None = None
    """[N]: training events of each item; None in a bundle of an earlier version."""
    fold_in: FoldIn | None = None
    """Moves the vectors of items by their first users; None in a bundle of an earlier version."""

    @classmethod
    def open(cls, directory: Path, index_device: str = "cpu") -> "ServedBundle":
        """Load a bundle with verified checksums (:func:`rf_platform.registry.check_bundle`).

        Args:
            directory: of the bundle.
            index_device: what searches, ``RF_INDEX_DEVICE``.

        Raises:
            NotFoundError, CorruptError, ConfigError: the bundle is not there, this version cannot read it, or the text encoder of
                its items is not here.
            UnavailableError: it is being removed.
        """
        manifest, lease = read_manifest(directory), Lease(directory)
        spec = FeatureSpec.load(directory / files.SPEC)
        encoder = FeatureEncoder.load(spec, directory / files.ENCODER)
        for text in encoder.texts.values():
            text.source()  # an item that comes later needs it: better no start than items without their texts
        ids = pq.read_table(directory / files.ITEMS, columns=[spec.item.join_key])[0].to_pylist()
        vectors_ND = np.load(directory / files.VECTORS, mmap_mode="r")
        index, model = manifest.index, load_model(directory / files.MODEL, encoder)
        ranker, item_states_NW = open_reranker(directory, len(ids), model.config.dim)
        return cls(
            path=directory,
            lease=lease,
            manifest=manifest,
            spec=spec,
            encoder=encoder,
            model=model,
            index=open_index(index.kind, directory / files.INDEX, vectors_ND, index.model_dump(), index_device),
            item_ids=ids,
            row_of_item={item: row for row, item in enumerate(ids)},
            item_tokens_ND=np.load(directory / files.TOKENS, mmap_mode="r"),
            vectors_ND=vectors_ND,
            ranker=ranker,
            item_states_NW=item_states_NW,
            popularity_N=np.load(popularity) if (popularity := directory / files.POPULARITY).exists() else None,
            fold_in=FoldIn.load(rule) if (rule := directory / files.FOLD_IN).exists() else None,
        )

    @cached_property
    def popular_rows(self) -> npt.NDArray[np.int64]:
        """[N]: rows, those with most training events first; empty where these are not known."""
        if self.popularity_N is None:
            return np.zeros(0, np.int64)
        return np.argsort(-self.popularity_N, kind="stable")

    @property
    def goals(self) -> tuple[str, ...]:
        """Goals that requests may name; empty for a model without any."""
        return () if self.model.goals is None else self.model.goals.names

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.manifest.name
