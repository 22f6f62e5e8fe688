//! Sign-in driven whole, in process: a cookie jar on one side, the service with its built-in identity provider
//! on the other, no sockets.

#![allow(missing_docs, reason = "tests")]

mod support;

mod first_visit;
mod hostile;
