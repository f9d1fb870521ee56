"""The benchmark: named workloads, their runs and medians, a table and a picture of them."""
