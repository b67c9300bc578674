"""Training of a transformer on shards that ``extract`` wrote."""
