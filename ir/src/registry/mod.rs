//! The kernel registry.
