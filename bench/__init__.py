"""Measurements. Each writes bench/results/<name>.json; ratios within one run are what counts."""
