"""What pyro_lfm's training is measured against; nothing here imports it."""
