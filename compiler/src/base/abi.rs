//! The interface of the object, as the compiler sees it: layout of the structures and numbers of
//! the errors. Defined once, in the runtime crate, because object and application must agree.

pub use lmc_runtime::abi::{
    ERR_ARENA, ERR_INDEX, ERR_LIMIT, ERR_SYMBOL, ERR_TENSOR, ERR_VALUE, ERR_VERSION, Model, OK, Run, Symbol,
    Tensor, VERSION,
};
