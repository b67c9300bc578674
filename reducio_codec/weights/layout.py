"""Names of the files in a model folder. Apart from io, so that names can be resolved without importing torch."""

CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"
ENTROPY_FILE = "entropy.json"
CARD_FILE = "README.md"
