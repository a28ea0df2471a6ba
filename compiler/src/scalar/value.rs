//! Scalars to and from Rust numbers.

use super::Scalar;
use crate::base::DType;
use half::{bf16, f16};

impl Scalar {
    /// The nearest value of an element type (floats to nearest even; integers saturate). The small
    /// floats take only values they hold exactly, zero and one among them.
    pub fn from_f64(dtype: DType, value: f64) -> Scalar {
        let bits = match dtype {
            DType::F32 => u64::from((value as f32).to_bits()),
            DType::F64 => value.to_bits(),
            DType::F16 => u64::from(f16::from_f64(value).to_bits()),
            DType::BF16 => u64::from(bf16::from_f64(value).to_bits()),
            DType::Bool => u64::from(value != 0.0),
            DType::U64 => value as u64,
            _ if dtype.is_small_float() => {
                return super::cast(Scalar::from_f64(DType::F32, value), dtype, true);
            }
            _ => return Scalar::from_i64(dtype, saturate(dtype, value)),
        };
        Scalar { dtype, bits }
    }

    /// An integer or boolean, wrapped to the type.
    pub fn from_i64(dtype: DType, value: i64) -> Scalar {
        match dtype {
            DType::Bool => Scalar { dtype, bits: u64::from(value != 0) },
            _ if dtype.is_int() => {
                Scalar { dtype, bits: value as u64 & (u64::MAX >> (64 - 8 * dtype.size())) }
            }
            _ => Scalar::from_f64(dtype, value as f64),
        }
    }

    /// The value of a number, widened (`u64` beyond 2^53 rounds).
    pub fn to_f64(self) -> f64 {
        match self.dtype {
            DType::F32 => f64::from(f32::from_bits(self.bits as u32)),
            DType::F64 => f64::from_bits(self.bits),
            DType::F16 => f16::from_bits(self.bits as u16).to_f64(),
            DType::BF16 => bf16::from_bits(self.bits as u16).to_f64(),
            DType::U64 => self.bits as f64,
            t if t.is_small_float() => super::cast(self, DType::F32, true).to_f64(),
            _ => self.to_i64() as f64,
        }
    }

    /// The value of an integer or boolean (`u64` wraps); of a float, towards zero.
    pub fn to_i64(self) -> i64 {
        match self.dtype {
            t if t.is_float() => self.to_f64() as i64,
            t if t.is_signed_int() => {
                let drop = 64 - 8 * t.size() as u32;
                (self.bits as i64) << drop >> drop
            }
            _ => self.bits as i64,
        }
    }

    /// One element from its little-endian bytes.
    pub fn from_le(dtype: DType, bytes: &[u8]) -> Scalar {
        let mut le = [0; 8];
        le[..dtype.size()].copy_from_slice(&bytes[..dtype.size()]);
        Scalar { dtype, bits: u64::from_le_bytes(le) }
    }

    /// The smallest value: minus infinity for floats that have it.
    pub fn lowest(dtype: DType) -> Scalar {
        match dtype {
            _ if dtype.is_float() => Scalar::from_f64(dtype, f64::NEG_INFINITY),
            _ if dtype.is_signed_int() => Scalar::from_i64(dtype, -1i64 << (dtype.bits() - 1)),
            _ => Scalar { dtype, bits: 0 },
        }
    }

    /// The largest value: infinity for floats that have it.
    pub fn highest(dtype: DType) -> Scalar {
        match dtype {
            _ if dtype.is_float() => Scalar::from_f64(dtype, f64::INFINITY),
            DType::Bool => Scalar { dtype, bits: 1 },
            _ if dtype.is_signed_int() => Scalar { dtype, bits: (1u64 << (dtype.bits() - 1)) - 1 },
            _ => Scalar { dtype, bits: u64::MAX >> (64 - dtype.bits()) },
        }
    }
}

fn saturate(dtype: DType, value: f64) -> i64 {
    if dtype.is_signed_int() {
        let half = 2f64.powi(dtype.bits() as i32 - 1);
        value.clamp(-half, half - 1.0) as i64
    } else {
        value.clamp(0.0, 2f64.powi(dtype.bits() as i32) - 1.0) as i64
    }
}
