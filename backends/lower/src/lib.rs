//! Walks tile IR and drives an emitter: what every native backend shares.
