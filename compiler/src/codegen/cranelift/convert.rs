//! Conversions between lane types.

use super::body::{Body, Parts};
use super::shape::Shape;
use crate::base::DType;
use crate::error::{Error, Result};
use crate::target::Arch;
use crate::tile::{Convert, Lane, Reg, Un};
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl Body<'_> {
    pub fn convert(&mut self, to: Shape, kind: Convert, a: Reg) -> Result<Parts> {
        let from = self.shape(a);
        if from.lanes != to.lanes {
            return Err(Error::bug("a conversion keeps the number of lanes"));
        }
        match kind {
            Convert::Bits => {
                let parts = self.get(a);
                Ok(parts.into_iter().map(|v| self.cast(to.part(), v)).collect())
            }
            Convert::SextLow(bits) | Convert::ZextLow(bits) => {
                let parts = self.get(a);
                let signed = matches!(kind, Convert::SextLow(_));
                Ok(parts.into_iter().map(|v| self.keep_low(to, v, bits, signed)).collect())
            }
            Convert::Nearest | Convert::NearestSmall => {
                let rounded = self.unary(Un::Round, a)?;
                let to = to.part();
                Ok(rounded.into_iter().map(|v| self.b.ins().fcvt_to_sint_sat(to, v)).collect())
            }
            Convert::RoundF16 | Convert::RoundBf16 => {
                let dtype = if kind == Convert::RoundF16 { DType::F16 } else { DType::BF16 };
                let parts = self.get(a);
                Ok(parts.into_iter().map(|v| self.round_half(from, v, dtype)).collect())
            }
            _ if from.is_scalar() => {
                let value = self.get(a)[0];
                Ok(vec![self.convert_scalar(to, kind, from, value)?])
            }
            _ => match self.convert_vectors(to, kind, from, a) {
                Some(parts) => Ok(parts),
                None => self.by_lane(to, &[(from, a)], |this, lanes| {
                    this.convert_scalar(scalar(to), kind, scalar(from), lanes[0])
                }),
            },
        }
    }

    /// Keeps the low bits of each lane.
    fn keep_low(&mut self, shape: Shape, value: Value, bits: u8, signed: bool) -> Value {
        let dropped = i64::from(shape.bits()) - i64::from(bits);
        if dropped <= 0 {
            return value;
        }
        if signed {
            let left = self.b.ins().ishl_imm_s(value, dropped);
            return self.b.ins().sshr_imm_s(left, dropped);
        }
        let mask = self.constant(shape, u64::MAX >> (64 - bits));
        self.b.ins().band(value, mask)
    }

    fn convert_scalar(&mut self, to: Shape, kind: Convert, from: Shape, a: Value) -> Result<Value> {
        let ty = to.scalar();
        let b = self.b.ins();
        Ok(match (kind, from.lane, to.lane) {
            (Convert::FloatToInt, Lane::F32 | Lane::F64, Lane::I32 | Lane::I64) => b.fcvt_to_sint_sat(ty, a),
            (Convert::FloatToUint, Lane::F32 | Lane::F64, Lane::I32 | Lane::I64) => b.fcvt_to_uint_sat(ty, a),
            (Convert::IntToFloat, Lane::I32 | Lane::I64, Lane::F32 | Lane::F64) => b.fcvt_from_sint(ty, a),
            (Convert::UintToFloat, Lane::I32 | Lane::I64, Lane::F32 | Lane::F64) => b.fcvt_from_uint(ty, a),
            (Convert::Float, Lane::F32, Lane::F64) => b.fpromote(ty, a),
            (Convert::Float, Lane::F64, Lane::F32) => b.fdemote(ty, a),
            (Convert::Int, Lane::I32, Lane::I64) => b.sextend(ty, a),
            (Convert::Int, Lane::I64, Lane::I32) => b.ireduce(ty, a),
            (Convert::Int, Lane::M32 | Lane::M64, Lane::M32 | Lane::M64) => a,
            (Convert::Zext, Lane::I32, Lane::I64) => b.uextend(ty, a),
            _ => {
                return Err(Error::bug(format!(
                    "no conversion {kind:?} from {:?} to {:?}",
                    from.lane, to.lane
                )));
            }
        })
    }

    /// The conversions that have vector instructions; `None` for the others.
    fn convert_vectors(&mut self, to: Shape, kind: Convert, from: Shape, a: Reg) -> Option<Parts> {
        use Lane::*;
        let x86 = self.target.arch == Arch::X86_64;
        let (f32, f64, i32) = (types::F32X4, types::F64X2, types::I32X4);
        let parts = self.get(a);
        let each = |this: &mut Self, f: &dyn Fn(&mut Self, Value) -> Value| {
            Some(parts.iter().map(|&v| f(this, v)).collect())
        };
        match (kind, from.lane, to.lane) {
            (Convert::FloatToInt, F32, I32) => each(self, &|this, v| this.b.ins().fcvt_to_sint_sat(i32, v)),
            (Convert::FloatToUint, F32, I32) if !x86 => {
                each(self, &|this, v| this.b.ins().fcvt_to_uint_sat(i32, v))
            }
            (Convert::IntToFloat, I32, F32) => each(self, &|this, v| this.b.ins().fcvt_from_sint(f32, v)),
            (Convert::UintToFloat, I32, F32) if !x86 => {
                each(self, &|this, v| this.b.ins().fcvt_from_uint(f32, v))
            }
            (Convert::Float, F32, F64) => {
                Some(self.double(&parts, to, |this, v| this.b.ins().fvpromote_low(v)))
            }
            (Convert::IntToFloat, I32, F64) => Some(self.double(&parts, to, |this, v| {
                let wide = this.b.ins().swiden_low(v);
                this.b.ins().fcvt_from_sint(f64, wide)
            })),
            (Convert::Float, F64, F32) => Some(self.halve(&parts, |this, v| this.b.ins().fvdemote(v))),
            (Convert::Int, I32, I64) | (Convert::Int, M32, M64) => {
                Some(self.double(&parts, to, |this, v| this.b.ins().swiden_low(v)))
            }
            (Convert::Zext, I32, I64) => Some(self.double(&parts, to, |this, v| this.b.ins().uwiden_low(v))),
            (Convert::Int, I64, I32) | (Convert::Int, M64, M32) => Some(self.halve(&parts, |this, v| {
                let bytes = this.cast(types::I8X16, v);
                let low = this.shuffle(bytes, bytes, &[0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]);
                this.cast(i32, low)
            })),
            _ => None,
        }
    }

    /// Two 64-bit vectors from each 32-bit one; `low` converts the lower two lanes.
    fn double(&mut self, parts: &[Value], to: Shape, low: impl Fn(&mut Self, Value) -> Value) -> Parts {
        let mut out = Vec::with_capacity(to.parts());
        for part in 0..to.parts() {
            let mut half = parts[part / 2];
            if part % 2 == 1 {
                let ty = self.b.func.dfg.value_type(half);
                half = self.high_half(half);
                half = self.cast(ty, half);
            }
            out.push(low(self, half));
        }
        out
    }

    /// One 32-bit vector from two 64-bit ones; `low` converts into the lower two lanes.
    fn halve(&mut self, parts: &[Value], low: impl Fn(&mut Self, Value) -> Value) -> Parts {
        let mut out = Vec::with_capacity(parts.len().div_ceil(2));
        for pair in parts.chunks(2) {
            let first = low(self, pair[0]);
            let Some(&second) = pair.get(1) else {
                out.push(first);
                continue;
            };
            let second = low(self, second);
            let ty = self.b.func.dfg.value_type(first);
            let (a, b) = (self.cast(types::I8X16, first), self.cast(types::I8X16, second));
            let mask: Vec<u8> = (0..8).chain(16..24).collect();
            let joined = self.shuffle(a, b, &mask);
            out.push(self.cast(ty, joined));
        }
        out
    }

    /// The upper 8 bytes of a vector in its lower 8, as bytes.
    pub fn high_half(&mut self, value: Value) -> Value {
        let bytes = self.cast(types::I8X16, value);
        let mask: Vec<u8> = (8..16).chain(8..16).collect();
        self.shuffle(bytes, bytes, &mask)
    }
}

/// The scalar with the same lane.
fn scalar(shape: Shape) -> Shape {
    Shape { lanes: 1, ..shape }
}
