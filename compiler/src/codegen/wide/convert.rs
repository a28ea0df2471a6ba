//! Conversions between lane types.

use super::Result;
use super::inst::{Arg, VReg};
use super::rows::Op;
use super::select::Select;
use crate::base::DType;
use crate::tile::{Bin, Convert, Lane, Reg, Un, Value};

/// How far values are followed to learn what they are.
const MOST_STEPS: u32 = 12;

impl Select<'_> {
    /// Translates a conversion.
    pub(super) fn convert(&mut self, r: Reg, convert: Convert, a: Reg) -> Result<()> {
        let (dst, src) = (self.target(r), self.source(a));
        let (to, from) = (self.ty(r).lane, self.ty(a).lane);
        let width = self.width(r).max(self.width(a));
        let op = match (convert, from, to) {
            (Convert::Bits, ..) => Op::Movaps,
            (Convert::FloatToInt, Lane::F32, Lane::I32) => {
                self.float_to_int(dst, src, width, a);
                return Ok(());
            }
            (Convert::FloatToUint, Lane::F32, Lane::I32) => {
                self.float_to_uint(dst, src, width);
                return Ok(());
            }
            (Convert::Nearest | Convert::NearestSmall, Lane::F32, Lane::I32) => Op::Cvtps2dq,
            (Convert::IntToFloat, Lane::I32, Lane::F32) => Op::Cvtdq2ps,
            (Convert::IntToFloat, Lane::I32, Lane::F64) => Op::Cvtdq2pd,
            (Convert::IntToFloat, Lane::I64, Lane::F64) => Op::Cvtqq2pd,
            (Convert::IntToFloat, Lane::I64, Lane::F32) => Op::Cvtqq2ps,
            (Convert::UintToFloat, Lane::I32, Lane::F32) if !self.isa.masks => {
                self.uint_to_float(dst, src, width);
                return Ok(());
            }
            (Convert::UintToFloat, Lane::I32, Lane::F32) => Op::Cvtudq2ps,
            (Convert::UintToFloat, Lane::I32, Lane::F64) => Op::Cvtudq2pd,
            (Convert::UintToFloat, Lane::I64, Lane::F64) => Op::Cvtuqq2pd,
            (Convert::UintToFloat, Lane::I64, Lane::F32) => Op::Cvtuqq2ps,
            (Convert::Float, Lane::F16, Lane::F32) => Op::Cvtph2ps,
            (Convert::Float, Lane::F32, Lane::F64) => Op::Cvtps2pd,
            (Convert::Float, Lane::F64, Lane::F32) => Op::Cvtpd2ps,
            (Convert::RoundF16, Lane::F32, Lane::F32) | (Convert::RoundBf16, Lane::F32, Lane::F32) => {
                let dtype = if convert == Convert::RoundF16 { DType::F16 } else { DType::BF16 };
                self.round_half(dst, src, dtype, width);
                return Ok(());
            }
            (Convert::Int, Lane::M32 | Lane::M64, _) if self.isa.masks => Op::KMove,
            (Convert::Int, Lane::I32, Lane::I64) | (Convert::Int, Lane::M32, Lane::M64) => Op::Pmovsxdq,
            (Convert::Int, Lane::I64, Lane::I32) if self.isa.masks => Op::Pmovqd,
            (Convert::Int, Lane::I64, Lane::I32) | (Convert::Int, Lane::M64, Lane::M32) => {
                self.low_halves(dst, src, width);
                return Ok(());
            }
            (Convert::Zext, Lane::I32, Lane::I64) => Op::Pmovzxdq,
            (Convert::SextLow(bits), Lane::I32, Lane::I32) => {
                let up = Arg::Imm(32 - i64::from(bits));
                let high = self.def(Op::Pslld, width, &[src.into(), up]);
                self.op(Op::Psrad, width, &[dst.into(), high.into(), up]);
                return Ok(());
            }
            (Convert::ZextLow(bits), Lane::I32, Lane::I32) => {
                let low = self.splat((1u64 << bits) - 1, 4, width);
                self.op(Op::Pand, width, &[dst.into(), src.into(), low.into()]);
                return Ok(());
            }
            _ => return Err(format!("{convert:?} from {from:?} to {to:?} lanes")),
        };
        self.has(op)?;
        self.op(op, width, &[dst.into(), src.into()]);
        Ok(())
    }

    /// The instruction gives the smallest integer for what does not fit: NaN becomes 0, and what is
    /// too large the largest, unless that is known not to occur.
    fn float_to_int(&mut self, dst: VReg, src: VReg, width: usize, a: Reg) {
        let (fits, number) = (self.fits_int(a, 0), self.is_number(a, 0));
        let limit = u64::from(2147483648f32.to_bits());
        let (ordered, at_least) = (Arg::Imm(7), Arg::Imm(0x1d));
        if self.isa.masks {
            let number = (!number).then(|| self.def(Op::KCmpps, width, &[src.into(), src.into(), ordered]));
            let cut = if fits { dst } else { self.f.reg(super::inst::Class::Vector) };
            self.masked(Op::Cvttps2dq, width, &[cut.into(), src.into()], number, false);
            if !fits {
                let limit = self.splat(limit, 4, width);
                let large = self.def(Op::KCmpps, width, &[src.into(), limit.into(), at_least]);
                let most = self.splat(0x7fff_ffff, 4, width);
                self.masked(Op::KBlend32, width, &[dst.into(), cut.into(), most.into()], Some(large), false);
            }
            return;
        }
        let mut cut = self.def(Op::Cvttps2dq, width, &[src.into()]);
        if !fits {
            let limit = self.splat(limit, 4, width);
            let large = self.def(Op::Cmpps, width, &[src.into(), limit.into(), at_least]);
            cut = self.def(Op::Pxor, width, &[cut.into(), large.into()]);
        }
        if number {
            return self.op(Op::Movaps, width, &[dst.into(), cut.into()]);
        }
        let number = self.def(Op::Cmpps, width, &[src.into(), src.into(), ordered]);
        self.op(Op::Pand, width, &[dst.into(), cut.into(), number.into()]);
    }

    /// To a half float and back.
    fn round_half(&mut self, dst: VReg, src: VReg, dtype: DType, width: usize) {
        if dtype == DType::F16 {
            let narrow = self.def(Op::Cvtps2ph, width, &[src.into(), Arg::Imm(0)]);
            return self.op(Op::Cvtph2ps, width, &[dst.into(), narrow.into()]);
        }
        let high = self.round_bf16(src, width);
        self.op(Op::Pslld, width, &[dst.into(), high.into(), Arg::Imm(16)]);
    }

    /// The operation that a register is the only result of, with comparison and selection joined.
    fn extreme_of(&self, r: Reg) -> Option<(Bin, Reg, Reg)> {
        match self.single(r)? {
            Value::Bin(bin @ (Bin::Min | Bin::Max), a, b) => Some((*bin, *a, *b)),
            Value::Select(m, a, b) => Some((self.extreme(*m, *a, *b)?, *a, *b)),
            _ => None,
        }
    }

    /// Whether a float is known to be below 2^31, or NaN.
    fn fits_int(&self, r: Reg, steps: u32) -> bool {
        let fits = |r: Reg| self.fits_int(r, steps + 1);
        let both = |r: Reg| fits(r) && self.is_number(r, steps + 1);
        if steps > MOST_STEPS {
            return false;
        }
        match (self.extreme_of(r), self.single(r)) {
            // A NaN gives the second operand.
            (Some((Bin::Min, a, b)), _) => both(a) || both(b) || (fits(a) && fits(b)),
            (Some((_, a, b)), _) => fits(a) && fits(b),
            (_, Some(Value::Const(bits))) => f32::from_bits(*bits as u32) < 2147483648f32,
            (_, Some(Value::Un(Un::Round | Un::Floor | Un::Ceil | Un::Trunc, a))) => fits(*a),
            (_, Some(Value::Copy(a) | Value::Splat(a))) => fits(*a),
            _ => false,
        }
    }

    /// Whether a float is known not to be NaN.
    fn is_number(&self, r: Reg, steps: u32) -> bool {
        let number = |r: Reg| self.is_number(r, steps + 1);
        if steps > MOST_STEPS {
            return false;
        }
        match (self.extreme_of(r), self.single(r)) {
            (Some((_, _, b)), _) => number(b),
            (_, Some(Value::Const(bits))) => !f32::from_bits(*bits as u32).is_nan(),
            (_, Some(Value::Un(Un::Round | Un::Floor | Un::Ceil | Un::Trunc, a))) => number(*a),
            (_, Some(Value::Copy(a) | Value::Splat(a))) => number(*a),
            (_, Some(Value::Convert(Convert::IntToFloat | Convert::UintToFloat, _))) => true,
            _ => false,
        }
    }

    /// NaN and negatives become 0 first: `max` gives its second operand for NaN.
    fn float_to_uint(&mut self, dst: VReg, src: VReg, width: usize) {
        let zero = self.splat(0, 4, width);
        let positive = self.def(Op::Maxps, width, &[src.into(), zero.into()]);
        if self.isa.masks {
            return self.op(Op::Cvttps2udq, width, &[dst.into(), positive.into()]);
        }
        let at_least = Arg::Imm(0x1d);
        let half = self.splat(u64::from(2147483648f32.to_bits()), 4, width);
        let limit = self.splat(u64::from(4294967296f32.to_bits()), 4, width);
        let upper = self.def(Op::Cmpps, width, &[positive.into(), half.into(), at_least]);
        let large = self.def(Op::Cmpps, width, &[positive.into(), limit.into(), at_least]);
        let less = self.def(Op::Pand, width, &[upper.into(), half.into()]);
        let rest = self.def(Op::Subps, width, &[positive.into(), less.into()]);
        let cut = self.def(Op::Cvttps2dq, width, &[rest.into()]);
        let top = self.def(Op::Pslld, width, &[upper.into(), Arg::Imm(31)]);
        let sum = self.def(Op::Pxor, width, &[cut.into(), top.into()]);
        self.op(Op::Por, width, &[dst.into(), sum.into(), large.into()]);
    }

    /// Both halves convert exactly; their sum rounds once.
    fn uint_to_float(&mut self, dst: VReg, src: VReg, width: usize) {
        let low = self.splat(0xffff, 4, width);
        let scale = self.splat(u64::from(65536f32.to_bits()), 4, width);
        let high = self.def(Op::Psrld, width, &[src.into(), Arg::Imm(16)]);
        let high = self.def(Op::Cvtdq2ps, width, &[high.into()]);
        let high = self.def(Op::Mulps, width, &[high.into(), scale.into()]);
        let low = self.def(Op::Pand, width, &[src.into(), low.into()]);
        let low = self.def(Op::Cvtdq2ps, width, &[low.into()]);
        self.op(Op::Addps, width, &[dst.into(), high.into(), low.into()]);
    }

    /// The low 32 bits of each 64-bit lane, side by side.
    fn low_halves(&mut self, dst: VReg, src: VReg, width: usize) {
        if width == 16 {
            return self.op(Op::Pshufd, 16, &[dst.into(), src.into(), Arg::Imm(0x08)]);
        }
        let order = [0u32, 2, 4, 6, 0, 0, 0, 0].iter().flat_map(|i| i.to_le_bytes()).collect();
        let order = self.constant(order, 0, 32);
        self.op(Op::Permd, 32, &[dst.into(), order.into(), src.into()]);
    }
}
