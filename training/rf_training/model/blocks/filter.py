"""Learnable frequency filters, causal.

Shapes: B users, Q tokens that are computed, T tokens that are seen, D width, N taps, F frequencies.
"""

import torch
from torch import Tensor
from torch.fft import irfft, rfft
from torch.nn import Parameter

from rf_training.model.blocks.block import Block, BlockSize, Sight

SHORTEST, LONGEST = 1.0, 0.5
"""Memory of the filters at the start, from the first width to the last: in interactions, and as a share of the taps."""


class FilterBlock(Block):
    """A filter for each of the D dimensions, learned in the frequency domain.

    Frequency filters (Zhou et al., 2022, "Filter-enhanced MLP is all you need for sequential recommendation"; its successors
    BSARec, WEARec and TV-Rec) multiply the spectrum of the padded sequence, a circular convolution in which every token
    reads the last one. Here the learned spectrum is that of N taps on the past, applied to the sequence behind N zeros: a
    token reads itself and those before it, whatever the length. The filters start as averages with memories of several lengths.
    """

    def make_mixer(self, size: BlockSize) -> None:
        """Make the spectra."""
        N, D = size.places, size.dim
        self.taps = N
        memory_D = torch.logspace(0, 1, D, base=max(SHORTEST, LONGEST * N))
        weight_ND = torch.exp(-torch.arange(N)[:, None] / memory_D)
        spectrum_FD = rfft(weight_ND / weight_ND.sum(0), dim=0)
        self.response_FD2 = Parameter(torch.view_as_real(spectrum_FD).contiguous())

    @property
    def kernel(self) -> Tensor:
        """The filters in time [N, D]: what counts of the token itself, the one before it, and so on."""
        kernel_ND: Tensor = irfft(torch.view_as_complex(self.response_FD2), n=self.taps, dim=0)
        return kernel_ND

    def mix(self, normed_BQD: Tensor, normed_BTD: Tensor, sight: Sight) -> Tensor:
        """Return the filtered tokens [B, Q, D]; in the last block, those at the places read."""
        taps_ND, T = self.kernel, normed_BTD.shape[1]
        seen_BTD = normed_BTD.float()
        spectrum_BFD = rfft(seen_BTD, n=2 * T, dim=1) * rfft(taps_ND[:T], n=2 * T, dim=0)
        filtered_BTD: Tensor = irfft(spectrum_BFD, n=2 * T, dim=1)[:, :T]
        if normed_BQD is normed_BTD:
            return filtered_BTD
        at_BQD = sight.place_BQ[:, :, None].expand(-1, -1, filtered_BTD.shape[2])
        # A token that asks differs from the one at its place by what it alone knows.
        own_BQD = normed_BQD.float() - seen_BTD.gather(1, at_BQD)
        filtered_BQD: Tensor = filtered_BTD.gather(1, at_BQD) + own_BQD * taps_ND[0]
        return filtered_BQD
