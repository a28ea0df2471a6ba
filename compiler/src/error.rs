//! What can go wrong, typed by who must act.
//!
//! Every error is one paragraph: the place (file, node, option), the reason, and what to do.

use std::fmt;

/// The result of every fallible step of the compiler.
pub type Result<T> = std::result::Result<T, Error>;

/// Who must act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The model file is malformed, or it asks for what lmc does not support. Exit code 1.
    Model,
    /// An option of the command line or of [`crate::Build`] is wrong or missing. Exit code 2.
    Options,
    /// The target cannot do what was asked (unknown CPU, no runner, budget exceeded). Exit code 2.
    Target,
    /// The machine refused: a file could not be read or written. Exit code 1.
    Io,
    /// lmc broke one of its own invariants. Exit code 3.
    Bug,
}

/// One error: its kind, where it happened, why, and what to do about it.
#[derive(Clone, Debug)]
pub struct Error {
    /// Who must act.
    pub kind: Kind,
    /// File, node or option the error is about; outermost first.
    pub place: Vec<String>,
    /// What is wrong.
    pub reason: String,
    /// What the user can do; empty where nothing helps.
    pub advice: String,
}

/// What can be done about a node that is wrong, or beyond what its operator supports.
pub const NODE_ADVICE: &str =
    "Check the model with onnx.checker (full_check=True); lmc ops says what is supported of each operator";

/// What can be done about a file that does not hold what it says, where nothing more exact is known.
pub const FILE_ADVICE: &str =
    "The file is damaged, or its exporter wrong: check it with onnx.checker (full_check=True)";

impl Error {
    /// An error of the given kind.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Error { kind, place: Vec::new(), reason: reason.into(), advice: String::new() }
    }

    /// The model file is wrong or unsupported.
    pub fn model(reason: impl Into<String>) -> Self {
        Error::new(Kind::Model, reason)
    }

    /// An option is wrong or missing.
    pub fn options(reason: impl Into<String>) -> Self {
        Error::new(Kind::Options, reason)
    }

    /// lmc broke an invariant of its own.
    pub fn bug(reason: impl Into<String>) -> Self {
        Error::new(Kind::Bug, reason)
    }

    /// Names an outer place: the file around a node, the node around an attribute.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place.insert(0, place.into());
        self
    }

    /// Says what the user can do.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Says what the user can do about a model, where nothing more exact is known.
    pub fn or_advise(self, advice: &str) -> Self {
        if self.kind == Kind::Model && self.advice.is_empty() { self.advise(advice) } else { self }
    }

    /// The exit code of the command line for this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Model | Kind::Io => 1,
            Kind::Options | Kind::Target => 2,
            Kind::Bug => 3,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Bug {
            write!(f, "internal error (a defect of lmc, please report it): ")?;
        }
        for place in &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.reason)?;
        if !self.advice.is_empty() {
            write!(f, ". {}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
