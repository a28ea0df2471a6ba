//! Element types, numbered as in ONNX `TensorProto.DataType`.

/// An element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum DType {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    U16 = 4,
    I16 = 5,
    I32 = 6,
    I64 = 7,
    Bool = 9,
    F16 = 10,
    F64 = 11,
    U32 = 12,
    U64 = 13,
    BF16 = 16,
    F8E4M3FN = 17,
    F8E4M3FNUZ = 18,
    F8E5M2 = 19,
    F8E5M2FNUZ = 20,
    U4 = 21,
    I4 = 22,
    F4E2M1 = 23,
    F8E8M0 = 24,
    U2 = 25,
    I2 = 26,
}

use DType::*;

/// Every element type with its name in text forms and the bytes of one element in memory.
/// Types under one byte are kept one element per byte inside the compiler.
const ROWS: &[(DType, &str, usize)] = &[
    (F32, "f32", 4),
    (U8, "u8", 1),
    (I8, "i8", 1),
    (U16, "u16", 2),
    (I16, "i16", 2),
    (I32, "i32", 4),
    (I64, "i64", 8),
    (Bool, "bool", 1),
    (F16, "f16", 2),
    (F64, "f64", 8),
    (U32, "u32", 4),
    (U64, "u64", 8),
    (BF16, "bf16", 2),
    (F8E4M3FN, "f8e4m3fn", 1),
    (F8E4M3FNUZ, "f8e4m3fnuz", 1),
    (F8E5M2, "f8e5m2", 1),
    (F8E5M2FNUZ, "f8e5m2fnuz", 1),
    (U4, "u4", 1),
    (I4, "i4", 1),
    (F4E2M1, "f4e2m1", 1),
    (F8E8M0, "f8e8m0", 1),
    (U2, "u2", 1),
    (I2, "i2", 1),
];

impl DType {
    fn row(self) -> &'static (DType, &'static str, usize) {
        ROWS.iter().find(|r| r.0 == self).expect("every element type has a row")
    }

    /// All element types.
    pub fn all() -> impl Iterator<Item = DType> {
        ROWS.iter().map(|r| r.0)
    }

    /// Name in text forms.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Reads a name of a text form.
    pub fn from_name(name: &str) -> Option<DType> {
        ROWS.iter().find(|r| r.1 == name).map(|r| r.0)
    }

    /// From the number in ONNX `TensorProto.DataType`; `None` for strings, complex and unknown.
    pub fn from_onnx(number: i64) -> Option<DType> {
        ROWS.iter().find(|r| i64::from(r.0 as u32) == number).map(|r| r.0)
    }

    /// Bytes of one element inside the compiler and in kernels.
    pub fn size(self) -> usize {
        self.row().2
    }

    /// Any floating-point type, 8-bit ones included.
    pub fn is_float(self) -> bool {
        matches!(self, F32 | F64 | F16 | BF16) || self.is_small_float()
    }

    /// A floating-point type of 8 bits or fewer: only cast, (de)quantized and moved.
    pub fn is_small_float(self) -> bool {
        matches!(self, F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F4E2M1 | F8E8M0)
    }

    /// A signed or unsigned integer (not `Bool`).
    pub fn is_int(self) -> bool {
        self.is_signed_int() || self.is_unsigned_int()
    }

    /// A signed integer.
    pub fn is_signed_int(self) -> bool {
        matches!(self, I8 | I16 | I32 | I64 | I4 | I2)
    }

    /// An unsigned integer.
    pub fn is_unsigned_int(self) -> bool {
        matches!(self, U8 | U16 | U32 | U64 | U4 | U2)
    }

    /// Value bits of an integer type (`4` for `I4`); 8 times the size otherwise.
    pub fn bits(self) -> u32 {
        match self {
            U4 | I4 | F4E2M1 => 4,
            U2 | I2 => 2,
            _ => 8 * self.size() as u32,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
