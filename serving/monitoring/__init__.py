"""What a server tells of its work: metrics for Prometheus, a log of requests."""
