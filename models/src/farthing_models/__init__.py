"""How the shipped models are made: the encoder is exported at set-up, the heads are trained and committed."""
