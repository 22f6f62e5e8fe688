//! Our own paths, one file per endpoint; which host serves which is in [`crate::service`].

mod api_login;
pub(crate) mod device;
pub(crate) mod health;
mod person;
mod portal;
mod route_callback;
mod route_sign_out;
mod sign_in;
mod sign_out;
mod user;
pub(crate) mod well_known;
mod who_am_i;
