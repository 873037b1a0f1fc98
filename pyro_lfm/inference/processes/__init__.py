"""Training of one fit by several processes of ``torch.distributed``, for ``lfm.fit`` and the training loop of ``SVI``."""
