"""One module for each format of model files, and the registry of them."""
