//! Runs compiled objects, to verify and to time them.
//!
//! [`load`] maps an object for the host into this process. [`foreign`] links an object with a small
//! C program and starts it, through an emulator where the host is another machine. [`executor`]
//! chooses between them, [`limits`] refuses what takes too much to run, [`profile`] measures kernels, [`mod@reference`] gives results to compare with, [`compare`]
//! does that.

pub mod compare;
pub mod executor;
pub mod foreign;
pub mod limits;
pub mod load;
pub mod profile;
pub mod reference;
