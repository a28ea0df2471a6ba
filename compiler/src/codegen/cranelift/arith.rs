//! Arithmetic, comparisons and selection, lane by lane.

use super::body::{Body, Parts};
use super::isa::baseline_x86;
use super::shape::Shape;
use crate::error::{Error, Result};
use crate::target::{Arch, Feature};
use crate::tile::{Bin, Cmp, Lane, Reg, Un};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl Body<'_> {
    pub fn unary(&mut self, op: Un, a: Reg) -> Result<Parts> {
        let shape = self.shape(a);
        let parts = self.get(a);
        parts.into_iter().map(|part| self.unary_part(op, shape, part)).collect()
    }

    fn unary_part(&mut self, op: Un, shape: Shape, a: Value) -> Result<Value> {
        let rounding = matches!(op, Un::Floor | Un::Ceil | Un::Trunc | Un::Round);
        if rounding && shape.is_float() && baseline_x86(self.target) {
            return Ok(self.round_by_addition(op, shape, a));
        }
        let b = self.b.ins();
        Ok(match (op, shape.is_float()) {
            (Un::Neg, true) => b.fneg(a),
            (Un::Abs, true) => b.fabs(a),
            (Un::Sqrt, true) => b.sqrt(a),
            (Un::Floor, true) => b.floor(a),
            (Un::Ceil, true) => b.ceil(a),
            (Un::Trunc, true) => b.trunc(a),
            (Un::Round, true) => b.nearest(a),
            (Un::Neg, false) if !shape.is_mask() => b.ineg(a),
            (Un::Abs, false) if shape.lane == Lane::I64 => {
                // `iabs` of 64-bit lanes is not everywhere.
                let zero = self.constant(shape, 0);
                let negative = self.compare_ints(IntCC::SignedLessThan, shape, a, zero);
                let negated = self.b.ins().ineg(a);
                self.choose(shape, negative, negated, a)
            }
            (Un::Abs, false) if !shape.is_mask() => b.iabs(a),
            (Un::Not, false) if shape.is_mask() && shape.is_scalar() => b.bxor_imm_s(a, 1),
            (Un::Not, false) => b.bnot(a),
            _ => return Err(no_operation(&op, shape)),
        })
    }

    /// Rounding without the instruction: adding and subtracting 2^23 (2^52) rounds the magnitude to
    /// an integer, larger magnitudes are integers already.
    fn round_by_addition(&mut self, op: Un, shape: Shape, a: Value) -> Value {
        let (digits, one) = match shape.lane {
            Lane::F32 => (u64::from(8_388_608f32.to_bits()), u64::from(1f32.to_bits())),
            _ => (4_503_599_627_370_496f64.to_bits(), 1f64.to_bits()),
        };
        let (digits, one) = (self.constant(shape, digits), self.constant(shape, one));
        let zero = self.constant(shape, 0);
        let magnitude = self.b.ins().fabs(a);
        let sum = self.b.ins().fadd(magnitude, digits);
        let nearest = self.b.ins().fsub(sum, digits);
        let rounded = match op {
            Un::Round => self.copysign(shape, nearest, a),
            Un::Trunc => {
                let above = self.b.ins().fcmp(FloatCC::LessThan, magnitude, nearest);
                let excess = self.choose(shape, above, one, zero);
                let below = self.b.ins().fsub(nearest, excess);
                self.copysign(shape, below, a)
            }
            _ => {
                let signed = self.copysign(shape, nearest, a);
                let down = op == Un::Floor;
                let (x, y) = if down { (a, signed) } else { (signed, a) };
                let wrong = self.b.ins().fcmp(FloatCC::LessThan, x, y);
                let correction = self.choose(shape, wrong, one, zero);
                let moved = match down {
                    true => self.b.ins().fsub(signed, correction),
                    false => self.b.ins().fadd(signed, correction),
                };
                self.copysign(shape, moved, a)
            }
        };
        let small = self.b.ins().fcmp(FloatCC::LessThan, magnitude, digits);
        self.choose(shape, small, rounded, a)
    }

    /// The magnitude of `a`, which is zero or has the sign of `b` already, with the sign of `b`.
    fn copysign(&mut self, shape: Shape, a: Value, b: Value) -> Value {
        if shape.is_scalar() {
            return self.b.ins().fcopysign(a, b);
        }
        let bits = if shape.bits() == 32 { 1 << 31 } else { 1 << 63 };
        let mask = self.lanes_of(shape.int_vector(), bits);
        let (a, b) = (self.cast(shape.int_vector(), a), self.cast(shape.int_vector(), b));
        let sign = self.b.ins().band(b, mask);
        let joined = self.b.ins().bor(a, sign);
        self.cast(shape.vector(), joined)
    }

    pub fn binary(&mut self, op: Bin, a: Reg, b: Reg) -> Result<Parts> {
        let shape = self.shape(a);
        if matches!(op, Bin::DivS | Bin::DivU | Bin::RemS | Bin::RemU) && !shape.is_float() {
            return self.by_lane(shape, &[(shape, a), (shape, b)], |this, lanes| {
                Ok(this.divide(op, shape, lanes[0], lanes[1]))
            });
        }
        if matches!(op, Bin::Shl | Bin::ShrS | Bin::ShrU) && !shape.is_float() {
            return self.shift(op, shape, a, b);
        }
        if matches!(op, Bin::MulHigh | Bin::ShrRound) && !shape.is_float() {
            return self.by_lane(shape, &[(shape, a), (shape, b)], |this, lanes| {
                Ok(this.through_64_bits(op, lanes[0], lanes[1]))
            });
        }
        let pairs: Vec<_> = self.get(a).into_iter().zip(self.get(b)).collect();
        pairs.into_iter().map(|(a, b)| self.binary_part(op, shape, a, b)).collect()
    }

    /// Sums or differences of the halves of lanes, and comparisons of their bytes.
    fn parts_part(&mut self, op: Bin, shape: Shape, a: Value, b: Value) -> Value {
        let couples = matches!(op, Bin::AddCouples | Bin::SubCouples);
        let [a, b] = [a, b].map(|v| {
            let vector = if shape.is_scalar() { self.b.ins().scalar_to_vector(types::I32X4, v) } else { v };
            self.cast(if couples { types::I16X8 } else { types::I8X16 }, vector)
        });
        let made = match op {
            Bin::AddCouples => self.b.ins().iadd(a, b),
            Bin::SubCouples => self.b.ins().isub(a, b),
            Bin::MinBytes => self.b.ins().smin(a, b),
            Bin::MaxBytes => self.b.ins().smax(a, b),
            Bin::MinBytesU => self.b.ins().umin(a, b),
            _ => self.b.ins().umax(a, b),
        };
        let made = self.cast(types::I32X4, made);
        if shape.is_scalar() { self.b.ins().extractlane(made, 0) } else { made }
    }

    /// What is exact in twice the bits.
    fn through_64_bits(&mut self, op: Bin, a: Value, b: Value) -> Value {
        let wide = self.b.ins().sextend(types::I64, a);
        let wide = match op {
            Bin::MulHigh => {
                let factor = self.b.ins().sextend(types::I64, b);
                let product = self.b.ins().imul(wide, factor);
                let high = self.b.ins().sshr_imm_u(product, 31);
                let most = self.b.ins().iconst(types::I64, i64::from(i32::MAX));
                self.b.ins().smin(high, most)
            }
            _ => {
                let by = self.b.ins().uextend(types::I64, b);
                let width = self.b.ins().iconst(types::I64, 32);
                let by = self.b.ins().umin(by, width);
                let one = self.b.ins().iconst(types::I64, 1);
                let whole = self.b.ins().ishl(one, by);
                let half = self.b.ins().ushr_imm_u(whole, 1);
                let sum = self.b.ins().iadd(wide, half);
                self.b.ins().sshr(sum, by)
            }
        };
        self.b.ins().ireduce(types::I32, wide)
    }

    pub fn binary_part(&mut self, op: Bin, shape: Shape, a: Value, b: Value) -> Result<Value> {
        let float = shape.is_float();
        let int = !float && !shape.is_mask();
        let bytes = matches!(op, Bin::MinBytes | Bin::MaxBytes | Bin::MinBytesU | Bin::MaxBytesU);
        if int && (bytes || matches!(op, Bin::AddCouples | Bin::SubCouples)) {
            return Ok(self.parts_part(op, shape, a, b));
        }
        let i = self.b.ins();
        Ok(match op {
            Bin::Add if float => i.fadd(a, b),
            Bin::Sub if float => i.fsub(a, b),
            Bin::Mul if float => i.fmul(a, b),
            Bin::Div if float => i.fdiv(a, b),
            Bin::Min | Bin::Max | Bin::MinNan | Bin::MaxNan if float => self.extreme(op, shape, a, b),
            Bin::Add if int => i.iadd(a, b),
            Bin::Sub if int => i.isub(a, b),
            Bin::Mul if int => i.imul(a, b),
            Bin::Min | Bin::Max | Bin::MinU | Bin::MaxU if int => self.extreme_int(op, shape, a, b),
            Bin::And if !float => i.band(a, b),
            Bin::Or if !float => i.bor(a, b),
            Bin::Xor if !float => i.bxor(a, b),
            _ => return Err(no_operation(&op, shape)),
        })
    }

    fn extreme(&mut self, op: Bin, shape: Shape, a: Value, b: Value) -> Value {
        let smaller = matches!(op, Bin::Min | Bin::MinNan);
        if self.target.arch == Arch::Aarch64 {
            // One instruction; which of equal zeros it gives is not specified.
            return if smaller { self.b.ins().fmin(a, b) } else { self.b.ins().fmax(a, b) };
        }
        // The form that Cranelift turns into `minps` and `maxps`.
        let (x, y) = if smaller { (a, b) } else { (b, a) };
        let chosen = self.b.ins().fcmp(FloatCC::LessThan, x, y);
        let result = self.choose(shape, chosen, a, b);
        if matches!(op, Bin::Min | Bin::Max) {
            return result;
        }
        let nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
        self.choose(shape, nan, a, result)
    }

    fn extreme_int(&mut self, op: Bin, shape: Shape, a: Value, b: Value) -> Value {
        let condition = match op {
            Bin::Min => IntCC::SignedLessThan,
            Bin::Max => IntCC::SignedGreaterThan,
            Bin::MinU => IntCC::UnsignedLessThan,
            _ => IntCC::UnsignedGreaterThan,
        };
        if shape.lane == Lane::I64 || (shape.is_scalar() || baseline_x86(self.target)) {
            let chosen = self.compare_ints(condition, shape, a, b);
            return self.choose(shape, chosen, a, b);
        }
        match op {
            Bin::Min => self.b.ins().smin(a, b),
            Bin::Max => self.b.ins().smax(a, b),
            Bin::MinU => self.b.ins().umin(a, b),
            _ => self.b.ins().umax(a, b),
        }
    }

    /// Integer division of scalars that never traps.
    fn divide(&mut self, op: Bin, shape: Shape, a: Value, b: Value) -> Value {
        let ty = shape.scalar();
        let (zero, one) = (self.int(ty, 0), self.int(ty, 1));
        let by_zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
        let signed = matches!(op, Bin::DivS | Bin::RemS);
        let minus_one = signed.then(|| {
            let all = self.int(ty, -1);
            self.b.ins().icmp(IntCC::Equal, b, all)
        });
        let mut divisor = self.b.ins().select(by_zero, one, b);
        if let Some(minus_one) = minus_one {
            divisor = self.b.ins().select(minus_one, one, divisor);
        }
        let mut result = match op {
            Bin::DivS => self.b.ins().sdiv(a, divisor),
            Bin::DivU => self.b.ins().udiv(a, divisor),
            Bin::RemS => self.b.ins().srem(a, divisor),
            _ => self.b.ins().urem(a, divisor),
        };
        if let (Bin::DivS, Some(minus_one)) = (op, minus_one) {
            let negated = self.b.ins().ineg(a);
            result = self.b.ins().select(minus_one, negated, result);
        }
        self.b.ins().select(by_zero, zero, result)
    }

    fn shift(&mut self, op: Bin, shape: Shape, a: Reg, by: Reg) -> Result<Parts> {
        let Some(count) = self.known(by) else {
            return self.by_lane(shape, &[(shape, a), (shape, by)], |this, lanes| {
                Ok(this.shift_scalar(op, shape, lanes[0], lanes[1]))
            });
        };
        let most = u64::from(shape.bits()) - 1;
        let parts = self.get(a);
        if count > most && op != Bin::ShrS {
            let zero = self.constant(shape, 0);
            return Ok(vec![zero; parts.len()]);
        }
        let count = self.int(types::I32, count.min(most) as i64);
        Ok(parts.into_iter().map(|a| self.shift_part(op, a, count)).collect())
    }

    fn shift_part(&mut self, op: Bin, a: Value, count: Value) -> Value {
        match op {
            Bin::Shl => self.b.ins().ishl(a, count),
            Bin::ShrS => self.b.ins().sshr(a, count),
            _ => self.b.ins().ushr(a, count),
        }
    }

    fn shift_scalar(&mut self, op: Bin, shape: Shape, a: Value, count: Value) -> Value {
        let ty = shape.scalar();
        let (width, most) =
            (self.int(ty, i64::from(shape.bits())), self.int(ty, i64::from(shape.bits() - 1)));
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, count, width);
        let count = self.b.ins().select(inside, count, most);
        let shifted = self.shift_part(op, a, count);
        if op == Bin::ShrS {
            return shifted;
        }
        let zero = self.int(ty, 0);
        self.b.ins().select(inside, shifted, zero)
    }

    pub fn mla(&mut self, acc: Reg, a: Reg, b: Reg) -> Result<Parts> {
        let shape = self.shape(acc);
        let (accs, xs, ys) = (self.get(acc), self.get(a), self.get(b));
        let mut parts = Vec::with_capacity(accs.len());
        for ((acc, x), y) in accs.into_iter().zip(xs).zip(ys) {
            parts.push(if !shape.is_float() {
                let product = self.b.ins().imul(x, y);
                self.b.ins().iadd(acc, product)
            } else if self.kernel.fused {
                self.b.ins().fma(x, y, acc)
            } else {
                let product = self.b.ins().fmul(x, y);
                self.b.ins().fadd(acc, product)
            });
        }
        Ok(parts)
    }

    pub fn compare(&mut self, op: Cmp, a: Reg, b: Reg) -> Result<Parts> {
        let shape = self.shape(a);
        let pairs: Vec<_> = self.get(a).into_iter().zip(self.get(b)).collect();
        let (float, int) = match op {
            Cmp::Eq => (Some(FloatCC::Equal), IntCC::Equal),
            Cmp::Ne => (Some(FloatCC::NotEqual), IntCC::NotEqual),
            Cmp::Lt => (Some(FloatCC::LessThan), IntCC::SignedLessThan),
            Cmp::Le => (Some(FloatCC::LessThanOrEqual), IntCC::SignedLessThanOrEqual),
            Cmp::Gt => (Some(FloatCC::GreaterThan), IntCC::SignedGreaterThan),
            Cmp::Ge => (Some(FloatCC::GreaterThanOrEqual), IntCC::SignedGreaterThanOrEqual),
            Cmp::LtU => (None, IntCC::UnsignedLessThan),
            Cmp::LeU => (None, IntCC::UnsignedLessThanOrEqual),
        };
        if !shape.is_float() {
            return Ok(pairs.into_iter().map(|(a, b)| self.compare_ints(int, shape, a, b)).collect());
        }
        let float = float.ok_or_else(|| no_operation(&op, shape))?;
        Ok(pairs.into_iter().map(|(a, b)| self.compare_floats(float, shape, a, b)).collect())
    }

    /// A comparison of float parts.
    fn compare_floats(&mut self, condition: FloatCC, shape: Shape, a: Value, b: Value) -> Value {
        if shape.is_scalar() || self.target.arch == Arch::Aarch64 || self.target.has(Feature::Avx) {
            return self.b.ins().fcmp(condition, a, b);
        }
        // Cranelift 0.135 folds an unaligned load into `cmpps`, which traps; a value that is not
        // itself a load is safe.
        let mut detour = |v| {
            let bits = self.cast(shape.int_vector(), v);
            self.cast(shape.vector(), bits)
        };
        let (a, b) = (detour(a), detour(b));
        self.b.ins().fcmp(condition, a, b)
    }

    /// A comparison of integer parts.
    pub fn compare_ints(&mut self, condition: IntCC, shape: Shape, a: Value, b: Value) -> Value {
        let signed = match condition {
            IntCC::UnsignedLessThan => IntCC::SignedLessThan,
            IntCC::UnsignedLessThanOrEqual => IntCC::SignedLessThanOrEqual,
            IntCC::UnsignedGreaterThan => IntCC::SignedGreaterThan,
            _ => return self.b.ins().icmp(condition, a, b),
        };
        if shape.is_scalar() || self.target.arch == Arch::Aarch64 {
            return self.b.ins().icmp(condition, a, b);
        }
        // x86_64 compares vectors as signed numbers only.
        let sign = self.lanes_of(shape.vector(), 1 << (shape.bits() - 1));
        let (a, b) = (self.b.ins().bxor(a, sign), self.b.ins().bxor(b, sign));
        self.b.ins().icmp(signed, a, b)
    }

    pub fn select(&mut self, mask: Reg, a: Reg, b: Reg) -> Result<Parts> {
        let shape = self.shape(a);
        let (masks, xs, ys) = (self.get(mask), self.get(a), self.get(b));
        let all = masks.into_iter().zip(xs).zip(ys);
        Ok(all.map(|((mask, a), b)| self.choose(shape, mask, a, b)).collect())
    }

    /// `mask ? a : b` of parts.
    pub fn choose(&mut self, shape: Shape, mask: Value, a: Value, b: Value) -> Value {
        if shape.is_scalar() {
            return self.b.ins().select(mask, a, b);
        }
        let mask = self.cast(shape.vector(), mask);
        self.b.ins().bitselect(mask, a, b)
    }
}

fn no_operation(op: &dyn std::fmt::Debug, shape: Shape) -> Error {
    Error::bug(format!("there is no {op:?} of {:?} lanes", shape.lane))
}
