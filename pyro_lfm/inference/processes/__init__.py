"""Training of one fit by several processes of ``torch.distributed``: ``lfm.fit`` joins them, the training loop shares rows."""
