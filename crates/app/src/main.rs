//! Pomerium.
fn main() {}
