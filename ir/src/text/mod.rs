//! Text forms of both levels.
