"""From records of any dataset to a set of whole people in parquet shards. What reads such sets is `data/built.py`."""
