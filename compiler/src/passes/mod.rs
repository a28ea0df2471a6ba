//! Graph passes: from the decoded model to a typed graph, then rewrites of it.

mod infer;

pub use infer::{Inferred, infer, is_supported};
