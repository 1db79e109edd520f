"""torch.nn.LSTM: WEIGHTS INPUT UNITS OUT."""

import sys

import numpy as np
import torch

x = torch.from_numpy(np.load(sys.argv[2]))
lstm = torch.nn.LSTM(x.shape[-1], int(sys.argv[3]), batch_first=True)
lstm.load_state_dict(torch.load(sys.argv[1]))
with torch.inference_mode():
    y, (h, c) = lstm(x)
np.save(sys.argv[4], y.numpy())
