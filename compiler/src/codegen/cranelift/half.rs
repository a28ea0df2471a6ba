//! Half-precision floats, by integer operations: the same bits on targets with and without them.
//!
//! In vectors of four 32-bit lanes, the half float in the low 16 bits.

use super::body::Body;
use super::shape::Shape;
use crate::base::DType;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl Body<'_> {
    /// `f16` or `bf16`, zero-extended, to `f32`. Exact.
    pub fn half_to_float(&mut self, raw: Value, dtype: DType) -> Value {
        if dtype == DType::BF16 {
            let bits = self.b.ins().ishl_imm_s(raw, 16);
            return self.cast(types::F32X4, bits);
        }
        let sign = self.and_bits(raw, 0x8000);
        let sign = self.b.ins().ishl_imm_s(sign, 16);
        let magnitude = self.and_bits(raw, 0x7fff);
        // Moved to the place of exponent and fraction, the value is too small by 2^112; the product
        // is right for subnormal numbers as well.
        let shifted = self.b.ins().ishl_imm_s(magnitude, 13);
        let shifted = self.cast(types::F32X4, shifted);
        let scale = self.lanes_of(types::F32X4, u64::from(0x7780_0000u32));
        let value = self.b.ins().fmul(shifted, scale);
        let value = self.cast(types::I32X4, value);
        let largest = self.lanes_of(types::I32X4, 0x7bff);
        let special = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, largest);
        let special = self.and_bits(special, 0x7f80_0000);
        let value = self.b.ins().bor(value, special);
        let value = self.b.ins().bor(value, sign);
        self.cast(types::F32X4, value)
    }

    /// `f32` to `f16` or `bf16` in the low half of each lane, to nearest even.
    pub fn float_to_half(&mut self, value: Value, dtype: DType) -> Value {
        let bits = self.cast(types::I32X4, value);
        if dtype == DType::BF16 {
            return self.float_to_bf16(bits);
        }
        let magnitude = self.and_bits(bits, 0x7fff_ffff);
        // A normal result: rounded by adding just under half of the last place, and its parity.
        let odd = self.b.ins().ushr_imm_s(magnitude, 13);
        let odd = self.and_bits(odd, 1);
        let rebased = self.add_bits(magnitude, 0xc800_0fff);
        let normal = self.b.ins().iadd(rebased, odd);
        let normal = self.b.ins().ushr_imm_s(normal, 13);
        // A subnormal one: the float addition of one half rounds at the right place.
        let half = self.lanes_of(types::F32X4, 0x3f00_0000);
        let float = self.cast(types::F32X4, magnitude);
        let aligned = self.b.ins().fadd(float, half);
        let aligned = self.cast(types::I32X4, aligned);
        let subnormal = self.add_bits(aligned, 0xc100_0000);
        let small = self.greater(113 << 23, magnitude);
        let result = self.b.ins().bitselect(small, subnormal, normal);
        // Too large, infinite or NaN.
        let bound = self.lanes_of(types::I32X4, (143 << 23) - 1);
        let large = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, bound);
        let infinity = self.lanes_of(types::I32X4, 0x7f80_0000);
        let nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, infinity);
        let nan = self.and_bits(nan, 0x0200);
        let special = self.lanes_of(types::I32X4, 0x7c00);
        let special = self.b.ins().bor(special, nan);
        let result = self.b.ins().bitselect(large, special, result);
        let sign = self.b.ins().ushr_imm_s(bits, 16);
        let sign = self.and_bits(sign, 0x8000);
        self.b.ins().bor(result, sign)
    }

    /// To `f16` or `bf16` and back: a scalar, or four lanes.
    pub fn round_half(&mut self, shape: Shape, value: Value, dtype: DType) -> Value {
        let lanes = match shape.is_scalar() {
            true => self.b.ins().scalar_to_vector(types::F32X4, value),
            false => value,
        };
        let narrow = self.float_to_half(lanes, dtype);
        let wide = self.half_to_float(narrow, dtype);
        if shape.is_scalar() { self.b.ins().extractlane(wide, 0) } else { wide }
    }

    fn float_to_bf16(&mut self, bits: Value) -> Value {
        let high = self.b.ins().ushr_imm_s(bits, 16);
        let odd = self.and_bits(high, 1);
        let rounded = self.add_bits(bits, 0x7fff);
        let rounded = self.b.ins().iadd(rounded, odd);
        let rounded = self.b.ins().ushr_imm_s(rounded, 16);
        let quiet = self.lanes_of(types::I32X4, 0x40);
        let quiet = self.b.ins().bor(high, quiet);
        let magnitude = self.and_bits(bits, 0x7fff_ffff);
        let infinity = self.lanes_of(types::I32X4, 0x7f80_0000);
        let nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, infinity);
        self.b.ins().bitselect(nan, quiet, rounded)
    }

    fn and_bits(&mut self, value: Value, bits: u32) -> Value {
        let mask = self.lanes_of(types::I32X4, u64::from(bits));
        self.b.ins().band(value, mask)
    }

    fn add_bits(&mut self, value: Value, bits: u32) -> Value {
        let constant = self.lanes_of(types::I32X4, u64::from(bits));
        self.b.ins().iadd(value, constant)
    }

    /// All ones where `bits > value`, for numbers without sign bit.
    fn greater(&mut self, bits: u32, value: Value) -> Value {
        let constant = self.lanes_of(types::I32X4, u64::from(bits));
        self.b.ins().icmp(IntCC::SignedGreaterThan, constant, value)
    }
}
