//! Comparison classes.
