"""pythae's trainer on the same autoencoder, run by a Python that has pythae.

It gets an environment of its own, so that neither side decides which packages the other has: `python -m venv FOLDER`,
then `FOLDER/bin/pip install` the same torch as here, and pythae after it. The loop by hand runs there too, to show
whether the two environments are equally fast.
"""

import sys
import tempfile

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback

from rivals import by_hand
from rivals.configuration import LEARNING_RATE, Configuration
from rivals.taking_part import Turn, take_part


class Encoder(BaseEncoder):
    def __init__(self, c: Configuration):
        super().__init__()
        self.network = by_hand.encoder(c, 2 * c.latent)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        mean, raw = self.network(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=raw)


class Decoder(BaseDecoder):
    def __init__(self, c: Configuration):
        super().__init__()
        self.network = by_hand.decoder(c)

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


class Report(TrainingCallback):
    def __init__(self, turn: Turn):
        self.turn = turn

    def on_epoch_end(self, *args, **kwargs) -> None:
        self.turn()


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    """One full-precision run on the CPU with the trainer's defaults: Adam, a DataLoader in this process."""
    config = VAEConfig(input_dim=c.event, latent_dim=c.latent, reconstruction_loss="bce")
    with tempfile.TemporaryDirectory() as folder:
        options = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=c.epochs,
            per_device_train_batch_size=c.batch,
            learning_rate=LEARNING_RATE,
            no_cuda=True,
        )
        data = BaseDataset(by_hand.begin(c, x), torch.zeros(len(x)))
        model = VAE(config, encoder=Encoder(c), decoder=Decoder(c))
        BaseTrainer(model, data, training_config=options, callbacks=[Report(turn)]).train()


CONTESTANTS = {"pythae's trainer": train, "by hand, beside pythae": by_hand.train}

if __name__ == "__main__":
    take_part(CONTESTANTS, *sys.argv[1:])
