"""The autoencoder in pythae, with networks of the user's, trained by its trainer."""

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
from rivals.configuration import LEARNING_RATE, Configuration
from rivals.taking_part import Turn, take_part
from torch import nn


class Encoder(BaseEncoder):
    def __init__(self, c: Configuration):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(c.columns, c.hidden), nn.ReLU(), nn.Linear(c.hidden, 2 * c.latent)
        )

    def forward(self, x: torch.Tensor) -> ModelOutput:
        mean, raw = self.network(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=raw)


class Decoder(BaseDecoder):
    def __init__(self, c: Configuration):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(c.latent, c.hidden), nn.ReLU(), nn.Linear(c.hidden, c.columns), nn.Sigmoid()
        )

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z))


class Report(TrainingCallback):
    def __init__(self, turn: Turn):
        self.turn = turn

    def on_log(self, training_config: BaseTrainerConfig, logs: dict, **kwargs: object) -> None:
        self.turn(-logs["train_epoch_loss"])


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(c.seed)
    model = VAE(
        VAEConfig(input_dim=(c.columns,), latent_dim=c.latent, reconstruction_loss="bce"),
        encoder=Encoder(c),
        decoder=Decoder(c),
    )
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=c.epochs,
            per_device_train_batch_size=c.batch,
            learning_rate=LEARNING_RATE,
            no_cuda=True,
        )
        data = BaseDataset(torch.from_numpy(x), torch.zeros(len(x)))
        BaseTrainer(model, data, training_config=config, callbacks=[Report(turn)]).train()


if __name__ == "__main__":
    take_part({"pythae": train}, *sys.argv[1:])
