//! The tile verifier.
