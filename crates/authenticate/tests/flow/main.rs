//! Sign-in driven whole, in process: a cookie jar on one side, the service with its built-in identity provider
//! on the other, no sockets.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

mod first_visit;
mod hostile;
mod local_idp;
mod loops;
mod pages;
mod sign_out;
mod step_up;
