"""From records of any dataset to a set of whole people in parquet shards, which `data/sources/shards.py` reads."""
