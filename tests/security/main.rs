//! One file per class of advisory: what went wrong elsewhere must not go wrong here.

mod brute_force;
mod claims;
mod configuration;
mod cross_site;
mod forwarded_headers;
mod hosts;
mod http2;
mod identity_headers;
mod internal_endpoints;
mod limits;
mod mixed_logins;
mod paths;
mod provider_lies;
mod raw_tokens;
mod return_urls;
mod sessions;
mod signed_urls;
mod smuggling;
mod state;
mod tokens;
mod user_agent;
mod xss;
