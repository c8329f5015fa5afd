//! Snapshot tests of every stage; nobody's dependency.
