"""A sampler that shares out again, among the ranks there are, what nobody has processed in this epoch."""
import random
from typing import Any, Dict, Iterator, List

import torch.utils.data

from horovod.torch.mpi_ops import rank, size


class ElasticSampler(torch.utils.data.Sampler):
    """Each rank's part of `dataset`, without the samples that were recorded as processed.

    Call `record_batch()` after each batch and `set_epoch()` at the END of each epoch (it forgets what was processed).
    A TorchState that holds the sampler keeps and restores it with the rest.

    Every rank gets equally many samples: the last ones are repeated to fill up.
    """

    def __init__(self, dataset: Any, shuffle: bool = True, seed: int = 0) -> None:
        self.dataset, self.shuffle, self.seed = dataset, shuffle, seed
        self.epoch = 0
        self.processed_num = 0          # samples of this epoch, on all ranks together
        self.rank, self.num_replicas = 0, 1
        self.remaining_indices: List[int] = []
        self.indices: List[int] = []
        self.num_samples = self.total_size = 0
        self.reset()

    def set_epoch(self, epoch: int) -> None:
        """A new epoch: another order, nothing processed."""
        self.epoch, self.processed_num = epoch, 0
        self.reset()

    def record_batch(self, batch_idx: int, batch_size: int) -> None:
        """Every rank has processed a batch of this size."""
        self.processed_num += batch_size * self.num_replicas

    def state_dict(self) -> Dict[str, int]:
        return {"epoch": self.epoch, "processed_num": self.processed_num}

    def load_state_dict(self, state_dict: Dict[str, int]) -> None:
        self.epoch, self.processed_num = state_dict["epoch"], state_dict["processed_num"]
        self.reset()

    def reset(self) -> None:
        """Share out what is left among the ranks that there are now."""
        self.num_replicas, self.rank = size(), rank()
        order = list(range(len(self.dataset)))
        if self.shuffle:                # by seed and epoch alone: equal on all ranks, and after any change of them
            random.Random(self.seed + self.epoch).shuffle(order)
        self.remaining_indices = order[self.processed_num:]
        self.num_samples = -(-len(self.remaining_indices) // self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        left = self.remaining_indices
        filled = left * (-(-self.total_size // len(left))) if left else []
        self.indices = filled[self.rank:self.total_size:self.num_replicas]
        return iter(self.indices)

    def __len__(self) -> int:
        return self.num_samples
