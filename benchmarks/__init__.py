"""Benchmarks: latency, streaming, fidelity and peers, and the report."""
