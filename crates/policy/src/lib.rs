//! The Pomerium policy language (PPL): parse, compile, evaluate, explain. Pure, no I/O.

/// placeholder
#[derive(Debug)]
pub struct Program;
