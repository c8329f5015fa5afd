//! sdc's reference interpreters for the graph level and the tile level.
