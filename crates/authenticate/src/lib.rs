//! Sign-in, callback, sign-out, the dashboard, programmatic login, and the built-in identity provider.
