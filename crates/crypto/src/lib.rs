//! Keys, tokens, signed URLs and sealed values; no HTTP, no clock of its own.
