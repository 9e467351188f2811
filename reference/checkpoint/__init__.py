"""Model files -> `(hparams, params)`, one module for each layout."""
