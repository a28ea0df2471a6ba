//! The errors a model returns, typed, with a text for each.

use crate::abi;
use core::fmt;

/// Why an inference failed. Outputs are then unspecified; nothing outside them and the arena was
/// written, and the next call may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// [`abi::ERR_INDEX`].
    Index,
    /// [`abi::ERR_ARENA`].
    Arena,
    /// [`abi::ERR_SYMBOL`].
    Symbol,
    /// [`abi::ERR_LIMIT`].
    Limit,
    /// [`abi::ERR_VALUE`].
    Value,
    /// [`abi::ERR_TENSOR`].
    Tensor,
    /// [`abi::ERR_VERSION`].
    Version,
    /// [`abi::ERR_CPU`].
    Cpu,
    /// A number this version of the crate does not know.
    Other(i32),
}

impl Error {
    /// What the number that a model returned means.
    pub fn check(code: i32) -> Result<(), Error> {
        Err(match code {
            abi::OK => return Ok(()),
            abi::ERR_INDEX => Error::Index,
            abi::ERR_ARENA => Error::Arena,
            abi::ERR_SYMBOL => Error::Symbol,
            abi::ERR_LIMIT => Error::Limit,
            abi::ERR_VALUE => Error::Value,
            abi::ERR_TENSOR => Error::Tensor,
            abi::ERR_VERSION => Error::Version,
            abi::ERR_CPU => Error::Cpu,
            other => Error::Other(other),
        })
    }

    /// The number.
    pub fn code(self) -> i32 {
        match self {
            Error::Index => abi::ERR_INDEX,
            Error::Arena => abi::ERR_ARENA,
            Error::Symbol => abi::ERR_SYMBOL,
            Error::Limit => abi::ERR_LIMIT,
            Error::Value => abi::ERR_VALUE,
            Error::Tensor => abi::ERR_TENSOR,
            Error::Version => abi::ERR_VERSION,
            Error::Cpu => abi::ERR_CPU,
            Error::Other(code) => code,
        }
    }

    /// The text, without the number.
    pub fn text(self) -> &'static str {
        let code = self.code();
        abi::CODES.iter().find(|c| c.0 == code).map_or("an error code unknown to this version", |c| c.2)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.text(), self.code())
    }
}

impl core::error::Error for Error {}
