# %% [markdown]
# # RetrievalFormer from Python
#
# A plain script in cells: run it with `python`, or open it as a notebook (`jupytext --to notebook examples/tutorial.py`).
# It needs a workspace with a dataset: `rf data import`, `rf features apply`, `rf dataset build`, or `make demo`.

# %%
import os
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import retrievalformer as rf

workspace = rf.Workspace()
dataset = workspace.dataset()
print(dataset.name, f"{dataset.n_items} items", dataset.fingerprint[:8])

# %% [markdown]
# ## The data, for PyTorch
# Histories of the training split with their next items, padded: what any sequence model learns from.

# %%
loader = DataLoader(
    rf.HistoryDataset(dataset, max_history=20), batch_size=32, shuffle=True, collate_fn=rf.collate_histories
)
batch = next(iter(loader))
print(batch.items.shape, "items,", int((batch.targets > 0).sum()), "targets")

# %% [markdown]
# ## A model of your own, evaluated like ours
# Anything that scores the whole catalog from a history: here the items that follow the last one most often.


# %%
class Follows:
    """Counts of what followed what."""

    name = "follows"

    def __init__(self) -> None:
        self.count = torch.zeros(dataset.n_items + 1, dataset.n_items + 1)
        for batch in loader:
            real = batch.targets > 0
            self.count.index_put_((batch.items[real], batch.targets[real]), torch.tensor(1.0), accumulate=True)

    def scores(self, users, histories):
        # Jagged: all histories one after the other, and where each begins and ends.
        last = [
            histories.values[end - 1] + 1 if length else 0
            for end, length in zip(histories.offsets[1:], histories.lengths, strict=True)
        ]
        return self.count[torch.tensor(last)][:, 1:].numpy()


print("follows:", rf.evaluate(Follows(), dataset)["ndcg@20"])


# %% [markdown]
# ## Training, with a callback


# %%
class Printer(rf.Callback):
    """Prints every epoch, and ends when it gets worse."""

    before = 0.0

    def on_epoch(self, epoch):
        ndcg = epoch.metrics["ndcg@20"]
        print(f"epoch {epoch.epoch}: {ndcg:.4f}")
        if ndcg < self.before:
            raise rf.StopTraining
        self.before = ndcg


result = workspace.train(changes=[f"train.epochs={os.environ.get('EPOCHS', '3')}"], callbacks=[Printer()])
print(result.name, "best epoch", result.best_epoch)

# %% [markdown]
# ## Recommendations in this process, and vectors for other programs

# %%
bundle = rf.load_bundle(workspace.build_bundle(result.name))
seen = list(bundle.item_ids[:3])
for each in bundle.recommend(seen, k=5):
    print(f"{each.score:.3f}", each.item, dict(each.features))

vectors = bundle.user_vectors([seen])
best = (vectors @ bundle.item_vectors.T).argmax()
print("nearest item of all, seen ones too:", bundle.item_ids[int(best)])
out = Path(os.environ.get("OUT", ".")) / "items.parquet"
print(bundle.export_item_vectors(out), "vectors in", out)
