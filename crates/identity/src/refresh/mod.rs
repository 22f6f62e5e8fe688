//! Keeping sessions and users up to date.
