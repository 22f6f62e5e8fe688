//! Sockets that listen: which addresses ([`bind`]), and the plain listener that redirects ([`redirect`]).

pub mod bind;
pub(crate) mod redirect;
