//! The decision: request facts, session and policy in; allow, deny or login with reasons out.
