"""Networks that judge what models generate. They are trained on real or drawn pictures alone, never on a model's."""
