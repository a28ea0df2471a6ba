//! Runs compiled objects, to verify and to time them.
//!
//! [`foreign`] links an object with a small C program and starts it, through an emulator where the
//! host is another machine.

pub mod foreign;
