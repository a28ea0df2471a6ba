//! lmc turns an ONNX model into one standalone object file for x86_64 or aarch64.
//!
//! The modules are the pipeline, in order; each may use only those above it:

pub mod error;
pub mod base;
pub mod scalar;
pub mod target;
pub mod tile;
pub mod definition;
pub mod graph;
pub mod ops;
pub mod import;
pub mod data;
pub mod passes;
pub mod lower;
pub mod schedule;
pub mod group;
pub mod strips;
pub mod nest;
pub mod plan;
pub mod sizes;
pub mod codegen;
pub mod emit;
pub mod package;
pub mod build;
pub mod run;
pub mod compress;
pub mod tune;
pub mod cli;

pub use build::Build;
