//! sdc's passes: simplify, fuse, layout, tile, plan, and the driver that runs them.
