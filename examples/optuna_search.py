"""Search settings with Optuna, ending trials early that fall behind (``pip install 'retrievalformer[tune]'``).

`rf tune` does this without a program, resumable and over several processes; a study of your own is for what it does not cover.
Run it in a workspace with a dataset: ``RF_HOME=.rf/demo python examples/optuna_search.py``.
"""

import os

import optuna

import retrievalformer as rf


def main() -> optuna.Study:
    """Run some trials, and return the study."""
    workspace = rf.Workspace()
    epochs = os.environ.get("EPOCHS", "3")

    def objective(trial: optuna.Trial) -> float:
        changes = [
            f"train.learning_rate={trial.suggest_float('learning_rate', 1e-4, 1e-2, log=True):g}",
            f"model.dropout={trial.suggest_float('dropout', 0.0, 0.5):.3f}",
            f"train.epochs={epochs}",
            "train.cold_budget=0",
        ]
        # What a callback raises ends the training: Optuna takes this run for pruned.
        result = workspace.train(changes=changes, name=f"search-{trial.number}", callbacks=[rf.OptunaPruning(trial)])
        return result.validation["ndcg@20"]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=int(os.environ.get("TRIALS", "5")))
    return study


if __name__ == "__main__":
    best = main().best_trial
    print(f"validation NDCG@20 {best.value:.4f} with {best.params}")
