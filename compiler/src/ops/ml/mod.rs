//! Operators of ai.onnx.ml whose values are tensors of numbers.

mod probability;
mod score;
mod tree_names;
mod tree_tables;
mod tree_questions;
mod tree_votes;
mod tree_walk;
mod tree_words;

pub mod features;
pub mod linear;
pub mod svm;
pub mod trees;

use super::Operator;

/// The families.
pub const FAMILIES: &[&[Operator]] = &[features::ROWS, linear::ROWS, svm::ROWS, trees::ROWS];
