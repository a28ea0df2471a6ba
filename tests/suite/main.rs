//! The integration tests, as modules of one binary: each binary would link all of lmc again.
//!
//! `cargo test -p lmc --test suite MODULE` runs one module.

mod assigned;
mod cranelift;
mod chosen;
mod classifiers;
mod cli;
mod compress;
mod computed;
mod conformance;
mod counted;
mod definition;
mod empty;
mod entries;
mod foreign;
mod found;
#[allow(dead_code, reason = "helpers for the other modules")]
mod golden;
mod graph;
mod group;
mod layering;
mod lengths;
mod measured;
mod limits;
#[allow(dead_code, reason = "helpers for the other modules")]
mod machine;
mod objects;
mod link;
mod models;
mod neon;
mod nest;
mod package;
mod passes;
mod random;
mod robustness;
mod plan;
mod rules;
mod schedule;
mod sizes;
mod spread;
#[allow(dead_code, reason = "helpers for the other modules")]
mod support;
mod readme;
mod regions;
mod signatures;
mod strips;
mod tables;
mod tile;
mod trees;
mod tune;
mod weights;
mod wide;
mod windows;
mod zeros;
