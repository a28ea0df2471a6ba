//! Scalar operations: the vocabulary of every expression, each stated once, as a row.
//!
//! A row gives the name in text forms, the number of arguments and the rule for the result's
//! type.

mod eval;
pub mod fixed;
pub mod math;
pub mod placed;
mod value;

pub use eval::{Function, add_product, cast, eval, function};

use crate::base::DType;

/// One element: its type and bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scalar {
    /// Element type.
    pub dtype: DType,
    /// The element's bits, zero-extended.
    pub bits: u64,
}

/// How an operation's result type follows from its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultType {
    /// The type of the (equal-typed) arguments.
    Same,
    /// `Bool`, from equal-typed arguments.
    Bool,
    /// `Select(Bool, T, T)` gives `T`.
    Select,
}

macro_rules! ops {
    ($($(#[$doc:meta])* $op:ident $name:literal $arity:literal $result:ident),* $(,)?) => {
        /// A scalar operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op { $($(#[$doc])* $op),* }

        /// Name, arguments and result rule of every operation.
        const ROWS: &[(Op, &str, usize, ResultType)] = &[$((Op::$op, $name, $arity, ResultType::$result)),*];
    };
}

ops! {
    /// `-a`; wraps for integers.
    Neg "neg" 1 Same,
    /// `|a|`; wraps for the smallest integer.
    Abs "abs" 1 Same,
    /// -1, 0 or 1; NaN stays NaN.
    Sign "sign" 1 Same,
    /// Square root.
    Sqrt "sqrt" 1 Same,
    /// Largest integer not above.
    Floor "floor" 1 Same,
    /// Smallest integer not below.
    Ceil "ceil" 1 Same,
    /// Towards zero.
    Trunc "trunc" 1 Same,
    /// To nearest, halves to even.
    Round "round" 1 Same,
    /// Natural exponential.
    Exp "exp" 1 Same,
    /// Natural logarithm.
    Log "log" 1 Same,
    /// Sine.
    Sin "sin" 1 Same,
    /// Cosine.
    Cos "cos" 1 Same,
    /// Tangent.
    Tan "tan" 1 Same,
    /// Inverse sine.
    Asin "asin" 1 Same,
    /// Inverse cosine.
    Acos "acos" 1 Same,
    /// Inverse tangent.
    Atan "atan" 1 Same,
    /// Hyperbolic sine.
    Sinh "sinh" 1 Same,
    /// Hyperbolic cosine.
    Cosh "cosh" 1 Same,
    /// Hyperbolic tangent.
    Tanh "tanh" 1 Same,
    /// Inverse hyperbolic sine.
    Asinh "asinh" 1 Same,
    /// Inverse hyperbolic cosine.
    Acosh "acosh" 1 Same,
    /// Inverse hyperbolic tangent.
    Atanh "atanh" 1 Same,
    /// Error function.
    Erf "erf" 1 Same,
    /// `1 / (1 + exp(-a))`.
    Sigmoid "sigmoid" 1 Same,
    /// Boolean or bitwise complement.
    Not "not" 1 Same,
    /// NaN test.
    IsNan "isnan" 1 Bool,
    /// Sum; wraps for integers, as do `Sub` and `Mul`.
    Add "add" 2 Same,
    /// Difference.
    Sub "sub" 2 Same,
    /// Product.
    Mul "mul" 2 Same,
    /// Quotient; integers truncate towards zero, division by zero gives 0.
    Div "div" 2 Same,
    /// Remainder with the sign of the dividend (C `fmod`, `%`); integer by zero gives 0.
    Rem "rem" 2 Same,
    /// Remainder with the sign of the divisor (Python `%`); integer by zero gives 0.
    Mod "mod" 2 Same,
    /// Smaller; NaN if either is NaN.
    Min "min" 2 Same,
    /// Larger; NaN if either is NaN.
    Max "max" 2 Same,
    /// Power; integers by repeated multiplication, negative exponents give 0 but for bases 1, -1.
    Pow "pow" 2 Same,
    /// Boolean or bitwise and.
    And "and" 2 Same,
    /// Boolean or bitwise or.
    Or "or" 2 Same,
    /// Boolean or bitwise exclusive or.
    Xor "xor" 2 Same,
    /// Left shift; 0 where the count reaches the width.
    Shl "shl" 2 Same,
    /// Right shift, arithmetic for signed types; a count past the width shifts everything out.
    Shr "shr" 2 Same,
    /// Equal (floats: ordered).
    Eq "eq" 2 Bool,
    /// Not equal (floats: or unordered).
    Ne "ne" 2 Bool,
    /// Less.
    Lt "lt" 2 Bool,
    /// Less or equal.
    Le "le" 2 Bool,
    /// Greater.
    Gt "gt" 2 Bool,
    /// Greater or equal.
    Ge "ge" 2 Bool,
    /// `a ? b : c`.
    Select "select" 3 Select,
}

impl Op {
    fn row(self) -> &'static (Op, &'static str, usize, ResultType) {
        &ROWS[self as usize]
    }

    /// Name in text forms.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Reads a name of a text form.
    pub fn from_name(name: &str) -> Option<Op> {
        ROWS.iter().find(|r| r.1 == name).map(|r| r.0)
    }

    /// Number of arguments.
    pub fn arity(self) -> usize {
        self.row().2
    }

    /// Whether the operation means something on elements of a type: integers have no roots, no
    /// exponentials, and nothing to round.
    pub fn takes(self, dtype: DType) -> bool {
        let compound = matches!(self, Op::IsNan | Op::Sign | Op::Mod | Op::Pow);
        let of_floats = matches!(self, Op::Sqrt | Op::Floor | Op::Ceil | Op::Trunc | Op::Round);
        let defined = self == Op::Select || function(self, dtype).is_some();
        dtype.is_float() || compound || (math::is_primitive(self, dtype) && !of_floats && defined)
    }

    /// The rule for the result's type.
    pub fn result(self) -> ResultType {
        self.row().3
    }

    /// The result's type for arguments of the given types; `None` where they do not fit.
    pub fn result_type(self, args: &[DType]) -> Option<DType> {
        let same = |args: &[DType]| args.windows(2).all(|w| w[0] == w[1]);
        match self.result() {
            _ if args.len() != self.arity() => None,
            ResultType::Same if same(args) => Some(args[0]),
            ResultType::Bool if same(args) => Some(DType::Bool),
            ResultType::Select if args[0] == DType::Bool && args[1] == args[2] => Some(args[1]),
            _ => None,
        }
    }
}

/// An associative operation that folds a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Fold {
    Sum,
    Prod,
    /// Which NaN wins is not specified.
    Max,
    /// Which NaN wins is not specified.
    Min,
    And,
    Or,
}

impl Fold {
    /// The scalar operation that joins two partial results.
    pub fn op(self) -> Op {
        match self {
            Fold::Sum => Op::Add,
            Fold::Prod => Op::Mul,
            Fold::Max => Op::Max,
            Fold::Min => Op::Min,
            Fold::And => Op::And,
            Fold::Or => Op::Or,
        }
    }

    /// Name in text forms.
    pub fn name(self) -> &'static str {
        match self {
            Fold::Sum => "sum",
            Fold::Prod => "prod",
            Fold::Max => "max",
            Fold::Min => "min",
            Fold::And => "and",
            Fold::Or => "or",
        }
    }

    /// Reads a name of a text form.
    pub fn from_name(name: &str) -> Option<Fold> {
        [Fold::Sum, Fold::Prod, Fold::Max, Fold::Min, Fold::And, Fold::Or]
            .into_iter()
            .find(|f| f.name() == name)
    }

    /// The value that leaves every other unchanged: the initial value of the fold.
    pub fn identity(self, dtype: DType) -> Scalar {
        match self {
            Fold::Sum => Scalar::from_f64(dtype, 0.0),
            Fold::Prod => Scalar::from_f64(dtype, 1.0),
            Fold::Max => Scalar::lowest(dtype),
            Fold::Min => Scalar::highest(dtype),
            Fold::And => {
                Scalar { dtype, bits: if dtype == DType::Bool { 1 } else { u64::MAX >> (64 - dtype.bits()) } }
            }
            Fold::Or => Scalar { dtype, bits: 0 },
        }
    }
}
