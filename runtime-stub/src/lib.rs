//! The small part an application links beside a model that lmc compiled.
//!
//! A compiled model is one object file that exports a constant, `NAME_model`, of type
//! [`abi::Model`]. This crate holds that ABI as Rust types, a safe wrapper over it ([`Model`]),
//! arenas ([`Arena`], [`StaticArena`]), what the processor has ([`features`]) and the errors a model can
//! return ([`Error`]). It needs neither `std` nor an allocator; `include/lmc.h` and `src/lmc.c` are the same for C.
//!
//! An application compiles its model in `build.rs` with `lmc::Build` and then writes
//!
//! ```ignore
//! lmc_runtime::include_model!("kws");
//!
//! let mut arena = Box::new(kws::Arena::new());
//! kws::run(&samples, &mut scores, &mut arena)?;
//! ```
#![no_std]

pub mod abi;
mod arena;
mod error;
mod model;
mod processor;

pub use arena::{Arena, StaticArena};
pub use error::Error;
pub use model::{DType, Model, SymbolInfo, TensorInfo};
pub use processor::features;

/// The C header with the same ABI, as text: `lmc build` copies its ABI part into each model's
/// header, so that the header of a model stands alone.
pub const C_HEADER: &str = include_str!("../include/lmc.h");

/// The C source with the same functions, as text.
pub const C_SOURCE: &str = include_str!("lmc.c");

/// Includes the binding `NAME.rs` that `lmc::Build` wrote into `OUT_DIR`: a module `NAME` with the
/// function `run`, the type `Arena` and the function `model`.
#[macro_export]
macro_rules! include_model {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}
