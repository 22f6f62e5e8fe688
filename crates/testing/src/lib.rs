//! Test support: a real identity provider, a browser, the upstream zoo, an in-process environment.
