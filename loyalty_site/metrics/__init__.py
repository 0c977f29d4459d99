"""What Prometheus may know of this installation, at /metrics.

State is read from rows when somebody asks, so it is right in any number of processes and survives restarts. What
happens in web processes is counted as it happens. docs/monitoring.md lists every metric; a test compares.
"""
