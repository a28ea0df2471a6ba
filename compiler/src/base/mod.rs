//! Element types, constants, affine forms, tokens of text forms: what every stage of the pipeline is made of.

pub mod abi;
pub mod affine;
pub mod annotate;
mod dtype;
pub mod elements;
mod gcd;
pub mod lex;
mod near;
mod parallel;
mod tensor;

pub use affine::{Affine, Bound};
pub use dtype::DType;
pub use gcd::gcd;
pub use near::nearest;
pub use parallel::in_parallel;
pub use tensor::{Tensor, TensorType, row_major_strides};
