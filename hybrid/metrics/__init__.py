"""The metrics of a supervisor, made from its status.

declarations  each metric once: name, kind, help, labels, and how it is read from a status
files         where the metrics are that applications make
application   the metrics that applications make, from the files of their workers
exposition    a status as text for Prometheus
otlp          a status as metrics of OpenTelemetry, and their way to a collector; needs the extra `otel`
"""
