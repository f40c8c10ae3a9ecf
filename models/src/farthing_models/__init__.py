"""How the models that Farthing ships are made: the encoder is exported at set-up, the heads are trained and committed."""
