//! sdc's default native backend: tile IR to object code through Cranelift.
