//! Benchmarks beside nginx, haproxy and Envoy.
