//! Pomerium: an identity-aware access proxy that replaces the VPN.
