//! The data plane: listeners, TLS, HTTP, routing, upstreams, access log.
