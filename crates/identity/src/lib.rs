//! Identity providers on one OpenID Connect core.
