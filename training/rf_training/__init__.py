"""Training layer: the RetrievalFormer model, losses, trainer, recipes, evaluation and baselines."""

import logging
import warnings

# Said by fbgemm and torchrec on every import of a CPU build; nothing a user could act on.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="fbgemm_gpu")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="torchrec")
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
