//! sdc's passes: simplify, fuse, layout, tile, plan, and the driver that runs them.
pub mod constant;
pub mod fuse;
pub mod layout;
pub mod local;
pub mod pass;
pub mod pipeline;
pub mod plan;
pub mod simplify;
pub mod tile;
