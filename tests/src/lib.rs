//! End-to-end and security tests.
