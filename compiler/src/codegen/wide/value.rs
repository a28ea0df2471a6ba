//! Values of registers to instructions: arithmetic, comparisons, selections.
//!
//! Only the last instruction of a sequence writes the destination, which may be a source too.

use super::Result;
use super::inst::lane_size;
use super::inst::{Arg, Base, Class, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::base::{Affine, DType};
use crate::codegen::loops::Loops;
use crate::tile::{Bin, Cmp, Dot, Lane, Reg, RegType, Un, Value};

/// By lane type: f32, f64, i32, i64.
fn by_lane(lane: Lane, ops: [Op; 4]) -> Op {
    match lane {
        Lane::F16 => ops[0].of_halves(),
        Lane::F32 => ops[0],
        Lane::F64 => ops[1],
        Lane::I32 | Lane::M32 => ops[2],
        Lane::I64 | Lane::M64 => ops[3],
    }
}

impl Select<'_> {
    /// The type of a kernel's register.
    pub(super) fn ty(&self, r: Reg) -> RegType {
        self.kernel.regs[r as usize]
    }

    /// Translates one assignment.
    pub(super) fn value(&mut self, r: Reg, value: &Value) -> Result<()> {
        let width = self.width(r);
        match value {
            Value::Const(bits) => self.constant_value(r, *bits),
            Value::Index(form, step) => self.index(r, form, *step)?,
            Value::Copy(s) => {
                let (dst, src) = (self.target(r), self.source(*s));
                let op = if self.in_mask(r) { Op::KMove } else { Op::Movaps };
                self.op(op, width, &[dst.into(), src.into()]);
            }
            Value::Load(addr, stride) => {
                let dtype = self.kernel.params[addr.param as usize].dtype;
                self.load(r, addr, dtype, *stride * dtype.size() as i64)?;
            }
            Value::LoadWords(addr, stride) => self.load(r, addr, DType::I32, *stride)?,
            Value::LoadCouples(addr) => self.load_couples(r, addr)?,
            Value::Lookup(table, index) => self.lookup(r, table, *index)?,
            Value::Un(un, a) => self.unary(r, *un, *a)?,
            Value::Bin(bin, a, b) => self.binary(r, *bin, *a, *b)?,
            Value::Mla(acc, a, b) | Value::Dot(Dot::Bytes, acc, a, b) => {
                self.multiply_add(r, *acc, *a, *b)?
            }
            Value::Dot(Dot::Halves | Dot::HalfPairs | Dot::CoupleHalves, ..) => {
                return Err("words whose halves lie apart".into());
            }
            Value::Dot(Dot::Squares(_), ..) => return Err("products of two rows by two columns".into()),
            Value::Dot(dot, acc, a, b) => self.dot(r, *dot, *acc, *a, *b),
            Value::Cmp(_, a, _) | Value::Select(_, a, _) if self.ty(*a).lane == Lane::F16 => {
                return Err("comparisons of half floats".into());
            }
            Value::Broadcast(a, 1..) if self.ty(*a).lane == Lane::F16 => {
                return Err("a lane of half floats".into());
            }
            Value::Cmp(cmp, a, b) => self.compare(r, *cmp, *a, *b),
            Value::Select(m, a, b) => match self.extreme(*m, *a, *b) {
                Some(bin) => self.binary(r, bin, *a, *b)?,
                None => self.select(r, *m, *a, *b),
            },
            Value::Convert(convert, a) => self.convert(r, *convert, *a)?,
            Value::Splat(a) => self.broadcast(r, *a, 0),
            Value::Broadcast(a, lane) => self.broadcast(r, *a, *lane),
            Value::Pairs(_) => return Err("pairs of lanes".into()),
            Value::Reduce(fold, a) => self.reduce(r, *fold, *a)?,
        }
        Ok(())
    }

    fn constant_value(&mut self, r: Reg, bits: u64) {
        let (dst, width) = (self.target(r), self.width(r));
        if self.in_mask(r) {
            return self.op(if bits & 1 != 0 { Op::KOnes } else { Op::KZero }, width, &[dst.into()]);
        }
        let (bits, element) = self.constant_bits(r, bits);
        if bits == 0 {
            return self.op(Op::Zero, width, &[dst.into()]);
        }
        let from = Mem::at(Base::Pool(self.f.constant(&bits.to_le_bytes()[..element])));
        let op = if element == 4 { Op::Broadcast32 } else { Op::Broadcast64 };
        self.op(op, width, &[dst.into(), from.into()]);
    }

    fn index(&mut self, r: Reg, form: &Affine, step: i64) -> Result<()> {
        let (dst, ty, width) = (self.target(r), self.ty(r), self.width(r));
        let size = lane_size(ty.lane);
        let lanes: Vec<u8> =
            (0..ty.lanes as i64).flat_map(|i| (i * step).to_le_bytes()[..size].to_vec()).collect();
        let base = self.affine(form)?;
        let (to_vector, splat, add) = match size {
            4 => (Op::MovdToVec, Op::Broadcast32, Op::Paddd),
            _ => (Op::MovqToVec, Op::Broadcast64, Op::Paddq),
        };
        let mut base = self.def(to_vector, 16, &[base.into()]);
        if ty.lanes > 1 {
            base = self.def(splat, width, &[base.into()]);
        }
        let offsets = self.constant(lanes, 0, width);
        self.op(add, width, &[dst.into(), base.into(), offsets.into()]);
        Ok(())
    }

    fn unary(&mut self, r: Reg, un: Un, a: Reg) -> Result<()> {
        let (dst, src, width, ty) = (self.target(r), self.source(a), self.width(r), self.ty(r));
        let float = matches!(ty.lane, Lane::F16 | Lane::F32 | Lane::F64);
        let size = lane_size(ty.lane).max(4);
        // Half floats have one in each half of 32 bits.
        let sign = if ty.lane == Lane::F16 { 0x8000_8000 } else { 1u64 << (8 * size - 1) };
        let rest = if ty.lane == Lane::F16 { 0x7fff_7fff } else { sign - 1 };
        match un {
            Un::Neg if float => {
                let sign = self.splat(sign, size, width);
                self.op(Op::Pxor, width, &[dst.into(), src.into(), sign.into()]);
            }
            Un::Neg => {
                let zero = self.splat(0, size, width);
                let op = if size == 4 { Op::Psubd } else { Op::Psubq };
                self.op(op, width, &[dst.into(), zero.into(), src.into()]);
            }
            Un::Abs if float => {
                let rest = self.splat(rest, size, width);
                self.op(Op::Pand, width, &[dst.into(), src.into(), rest.into()]);
            }
            Un::Abs if size == 4 => self.op(Op::Pabsd, width, &[dst.into(), src.into()]),
            Un::Abs if self.isa.masks => self.op(Op::Pabsq, width, &[dst.into(), src.into()]),
            Un::Abs => self.magnitude_longs(dst, src, width),
            Un::Sqrt if float => {
                let op = by_lane(ty.lane, [Op::Sqrtps, Op::Sqrtpd, Op::Sqrtps, Op::Sqrtpd]);
                self.op(op, width, &[dst.into(), src.into()]);
            }
            Un::Floor | Un::Ceil | Un::Trunc | Un::Round if float => {
                let mode = match un {
                    Un::Round => 8,
                    Un::Floor => 9,
                    Un::Ceil => 10,
                    _ => 11,
                };
                let op = by_lane(ty.lane, [Op::Roundps, Op::Roundpd, Op::Roundps, Op::Roundpd]);
                self.op(op, width, &[dst.into(), src.into(), Arg::Imm(mode)]);
            }
            Un::Not if self.in_mask(r) => self.op(Op::KNot, width, &[dst.into(), src.into()]),
            Un::Not if !float => {
                let ones = self.splat(u64::MAX, size, width);
                self.op(Op::Pxor, width, &[dst.into(), src.into(), ones.into()]);
            }
            _ => return Err(format!("{un:?} of {:?} lanes", ty.lane)),
        }
        Ok(())
    }

    fn binary(&mut self, r: Reg, bin: Bin, a: Reg, b: Reg) -> Result<()> {
        let (dst, width, lane) = (self.target(r), self.width(r), self.ty(r).lane);
        if let (Bin::Shl | Bin::ShrS | Bin::ShrU, Some(count)) = (bin, self.constant_reg(b)) {
            return self.shift(r, bin, a, count);
        }
        if bin == Bin::Or && self.weave_bytes(r, (a, b))? {
            return Ok(());
        }
        if (bin, lane) == (Bin::Mul, Lane::I64) {
            self.multiply_longs(dst, a, b, width);
            return Ok(());
        }
        let (x, y) = (self.source(a), self.source(b));
        if matches!(bin, Bin::Min | Bin::Max | Bin::MinU | Bin::MaxU) && lane == Lane::I64 && !self.isa.masks
        {
            self.extreme_long(bin, (dst, x, y), width);
            return Ok(());
        }
        let float = matches!(lane, Lane::F16 | Lane::F32 | Lane::F64);
        let op = match bin {
            Bin::And | Bin::Or | Bin::Xor if self.in_mask(r) => match bin {
                Bin::And => Op::KAnd,
                Bin::Or => Op::KOr,
                _ => Op::KXor,
            },
            Bin::And => Op::Pand,
            Bin::Or => Op::Por,
            Bin::Xor => Op::Pxor,
            Bin::Add => by_lane(lane, [Op::Addps, Op::Addpd, Op::Paddd, Op::Paddq]),
            Bin::Sub => by_lane(lane, [Op::Subps, Op::Subpd, Op::Psubd, Op::Psubq]),
            Bin::Mul => by_lane(lane, [Op::Mulps, Op::Mulpd, Op::Pmulld, Op::Pmullq]),
            Bin::Min => by_lane(lane, [Op::Minps, Op::Minpd, Op::Pminsd, Op::Pminsq]),
            Bin::Max => by_lane(lane, [Op::Maxps, Op::Maxpd, Op::Pmaxsd, Op::Pmaxsq]),
            Bin::Div if float => by_lane(lane, [Op::Divps, Op::Divpd, Op::Divps, Op::Divpd]),
            Bin::MinU if !float => by_lane(lane, [Op::Pminud, Op::Pminuq, Op::Pminud, Op::Pminuq]),
            Bin::MaxU if !float => by_lane(lane, [Op::Pmaxud, Op::Pmaxuq, Op::Pmaxud, Op::Pmaxuq]),
            Bin::Shl if !float => by_lane(lane, [Op::Psllvd, Op::Psllvq, Op::Psllvd, Op::Psllvq]),
            Bin::ShrU if !float => by_lane(lane, [Op::Psrlvd, Op::Psrlvq, Op::Psrlvd, Op::Psrlvq]),
            Bin::ShrS if !float => by_lane(lane, [Op::Psravd, Op::Psravq, Op::Psravd, Op::Psravq]),
            Bin::AddCouples if lane == Lane::I32 => Op::Paddw,
            Bin::SubCouples if lane == Lane::I32 => Op::Psubw,
            Bin::MinBytes if lane == Lane::I32 => Op::Pminsb,
            Bin::MaxBytes if lane == Lane::I32 => Op::Pmaxsb,
            Bin::MinBytesU if lane == Lane::I32 => Op::Pminub,
            Bin::MaxBytesU if lane == Lane::I32 => Op::Pmaxub,
            Bin::MinNan | Bin::MaxNan if float => {
                self.propagate_nan(lane, bin, (dst, x, y), width);
                return Ok(());
            }
            _ => return Err(format!("{bin:?} of {lane:?} lanes")),
        };
        self.has(op)?;
        self.op(op, width, &[dst.into(), x.into(), y.into()]);
        Ok(())
    }

    /// Whether the target has an instruction at all.
    pub(super) fn has(&self, op: Op) -> Result<()> {
        let codes = op.codes();
        if codes.len() == 5 && !self.isa.masks && codes[0] == iced_x86::Code::INVALID {
            return Err(format!("{op:?} without AVX-512"));
        }
        Ok(())
    }

    /// `x < y ? x : y` (or `>`) gives `y` where `x` is NaN: there, `x` itself is taken.
    pub(super) fn propagate_nan(
        &mut self,
        lane: Lane,
        bin: Bin,
        (dst, x, y): (VReg, VReg, VReg),
        width: usize,
    ) {
        let op = match bin {
            Bin::MinNan => by_lane(lane, [Op::Minps, Op::Minpd, Op::Minps, Op::Minpd]),
            _ => by_lane(lane, [Op::Maxps, Op::Maxpd, Op::Maxps, Op::Maxpd]),
        };
        let best = self.def(op, width, &[x.into(), y.into()]);
        let unordered = Arg::Imm(3);
        if self.isa.masks {
            let (cmp, blend) = match lane {
                Lane::F16 => (Op::KCmpph, Op::KBlend16),
                Lane::F64 => (Op::KCmppd, Op::KBlend64),
                _ => (Op::KCmpps, Op::KBlend32),
            };
            let nan = self.def(cmp, width, &[x.into(), x.into(), unordered]);
            self.masked(blend, width, &[dst.into(), best.into(), x.into()], Some(nan), false);
        } else {
            let cmp = if lane == Lane::F64 { Op::Cmppd } else { Op::Cmpps };
            let nan = self.def(cmp, width, &[x.into(), x.into(), unordered]);
            self.op(Op::Blendv, width, &[dst.into(), best.into(), x.into(), nan.into()]);
        }
    }

    fn shift(&mut self, r: Reg, bin: Bin, a: Reg, count: u64) -> Result<()> {
        let (dst, src, width, lane) = (self.target(r), self.source(a), self.width(r), self.ty(r).lane);
        let bits = 8 * lane_size(lane) as u64;
        let count = if bits == 32 { count & 0xffff_ffff } else { count };
        let (op, most) = match bin {
            Bin::Shl => (by_lane(lane, [Op::Pslld, Op::Psllq, Op::Pslld, Op::Psllq]), bits),
            Bin::ShrU => (by_lane(lane, [Op::Psrld, Op::Psrlq, Op::Psrld, Op::Psrlq]), bits),
            _ => (by_lane(lane, [Op::Psrad, Op::Psraq, Op::Psrad, Op::Psraq]), bits - 1),
        };
        let count = count.min(most) as i64;
        if op == Op::Psraq && !self.isa.masks {
            self.shift_longs(dst, src, count, width);
            return Ok(());
        }
        self.has(op)?;
        self.op(op, width, &[dst.into(), src.into(), Arg::Imm(count)]);
        Ok(())
    }

    fn multiply_add(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        if let Some((a, b)) = self.halves(a, b) {
            self.multiply_add_halves(r, acc, a, b);
            return Ok(());
        }
        let (dst, width, lane) = (self.target(r), self.width(r), self.ty(r).lane);
        let (acc, x, y) = (self.source(acc), self.source(a), self.source(b));
        let float = matches!(lane, Lane::F16 | Lane::F32 | Lane::F64);
        if lane == Lane::F16 && !self.kernel.fused {
            return Err("products of half floats that are rounded".into());
        }
        if float && self.kernel.fused {
            let op = by_lane(lane, [Op::Fma32, Op::Fma64, Op::Fma32, Op::Fma64]);
            self.op(op, width, &[dst.into(), acc.into(), x.into(), y.into()]);
            return Ok(());
        }
        let product = self.f.reg(Class::Vector);
        if lane == Lane::I64 {
            self.multiply_longs(product, a, b, width);
        } else {
            let mul = by_lane(lane, [Op::Mulps, Op::Mulpd, Op::Pmulld, Op::Pmullq]);
            self.op(mul, width, &[product.into(), x.into(), y.into()]);
        }
        let add = by_lane(lane, [Op::Addps, Op::Addpd, Op::Paddd, Op::Paddq]);
        self.op(add, width, &[dst.into(), acc.into(), product.into()]);
        Ok(())
    }

    fn compare(&mut self, r: Reg, cmp: Cmp, a: Reg, b: Reg) {
        let (dst, x, y) = (self.target(r), self.source(a), self.source(b));
        let (width, lane) = (self.width(a), self.ty(a).lane);
        match lane {
            Lane::F32 | Lane::F64 => {
                let predicate = match cmp {
                    Cmp::Eq => 0,
                    Cmp::Ne => 4,
                    Cmp::Lt | Cmp::LtU => 0x11,
                    Cmp::Le | Cmp::LeU => 0x12,
                    Cmp::Gt => 0x1e,
                    Cmp::Ge => 0x1d,
                };
                let wide = lane == Lane::F64;
                let op = match self.isa.masks {
                    true => {
                        if wide {
                            Op::KCmppd
                        } else {
                            Op::KCmpps
                        }
                    }
                    false => {
                        if wide {
                            Op::Cmppd
                        } else {
                            Op::Cmpps
                        }
                    }
                };
                self.op(op, width, &[dst.into(), x.into(), y.into(), Arg::Imm(predicate)]);
            }
            Lane::M32 | Lane::M64 if self.isa.masks => {
                let op = if cmp == Cmp::Eq { Op::KXnor } else { Op::KXor };
                self.op(op, width, &[dst.into(), x.into(), y.into()]);
            }
            _ if self.isa.masks => {
                let (predicate, unsigned) = match cmp {
                    Cmp::Eq => (0, false),
                    Cmp::Ne => (4, false),
                    Cmp::Lt => (1, false),
                    Cmp::Le => (2, false),
                    Cmp::Gt => (6, false),
                    Cmp::Ge => (5, false),
                    Cmp::LtU => (1, true),
                    Cmp::LeU => (2, true),
                };
                let op = match (lane_size(lane), unsigned) {
                    (4, false) => Op::KCmpd,
                    (4, true) => Op::KCmpud,
                    (_, false) => Op::KCmpq,
                    (_, true) => Op::KCmpuq,
                };
                self.op(op, width, &[dst.into(), x.into(), y.into(), Arg::Imm(predicate)]);
            }
            _ => self.compare_vectors(cmp, lane_size(lane), (dst, x, y), width),
        }
    }

    /// Integer comparison to a vector of ones and zeros, from `==` and signed `>`.
    fn compare_vectors(&mut self, cmp: Cmp, size: usize, (dst, x, y): (VReg, VReg, VReg), width: usize) {
        let (eq, gt) = if size == 4 { (Op::Pcmpeqd, Op::Pcmpgtd) } else { (Op::Pcmpeqq, Op::Pcmpgtq) };
        let (mut x, mut y) = (x, y);
        if matches!(cmp, Cmp::LtU | Cmp::LeU) {
            let sign = self.splat(1 << (8 * size - 1), size, width);
            x = self.def(Op::Pxor, width, &[x.into(), sign.into()]);
            y = self.def(Op::Pxor, width, &[y.into(), sign.into()]);
        }
        let (op, x, y, not) = match cmp {
            Cmp::Eq => (eq, x, y, false),
            Cmp::Ne => (eq, x, y, true),
            Cmp::Gt => (gt, x, y, false),
            Cmp::Lt | Cmp::LtU => (gt, y, x, false),
            Cmp::Le | Cmp::LeU => (gt, x, y, true),
            Cmp::Ge => (gt, y, x, true),
        };
        if !not {
            return self.op(op, width, &[dst.into(), x.into(), y.into()]);
        }
        let opposite = self.def(op, width, &[x.into(), y.into()]);
        let ones = self.splat(u64::MAX, size, width);
        self.op(Op::Pxor, width, &[dst.into(), opposite.into(), ones.into()]);
    }

    /// The minimum or maximum that `m ? a : b` is, where it is one.
    pub(super) fn extreme(&self, m: Reg, a: Reg, b: Reg) -> Option<Bin> {
        let unchanged = self.single(a).is_some() && self.single(b).is_some();
        let float = matches!(self.ty(a).lane, Lane::F32 | Lane::F64);
        match self.single(m)? {
            Value::Cmp(cmp, x, y) if unchanged && float && (*x, *y) == (a, b) => match cmp {
                Cmp::Lt => Some(Bin::Min),
                Cmp::Gt => Some(Bin::Max),
                _ => None,
            },
            _ => None,
        }
    }

    fn select(&mut self, r: Reg, m: Reg, a: Reg, b: Reg) {
        let (dst, width) = (self.target(r), self.width(r));
        let (m, x, y) = (self.source(m), self.source(a), self.source(b));
        if self.in_mask(r) {
            let yes = self.def(Op::KAnd, width, &[m.into(), x.into()]);
            let not = self.def(Op::KNot, width, &[m.into()]);
            let no = self.def(Op::KAnd, width, &[not.into(), y.into()]);
            return self.op(Op::KOr, width, &[dst.into(), yes.into(), no.into()]);
        }
        if self.isa.masks {
            let op = if lane_size(self.ty(r).lane) == 4 { Op::KBlend32 } else { Op::KBlend64 };
            return self.masked(op, width, &[dst.into(), y.into(), x.into()], Some(m), false);
        }
        self.op(Op::Blendv, width, &[dst.into(), y.into(), x.into(), m.into()]);
    }

    /// One lane of a register in every lane of another.
    fn broadcast(&mut self, r: Reg, a: Reg, lane: u8) {
        let (dst, src) = (self.target(r), self.source(a));
        let (to, from, size) = (self.width(r), self.width(a), lane_size(self.ty(r).lane));
        let splat = match size {
            2 => Op::Broadcast16,
            4 => Op::Broadcast32,
            _ => Op::Broadcast64,
        };
        if self.in_mask(r) {
            let bits = self.def(Op::KToGpr, 16, &[src.into()]);
            if lane > 0 {
                self.op(Op::ShrImm, 16, &[bits.into(), Arg::Imm(i64::from(lane))]);
            }
            self.op(Op::AndImm, 16, &[bits.into(), Arg::Imm(1)]);
            self.op(Op::Neg32, 16, &[bits.into()]);
            return self.op(Op::KFromGpr, 16, &[dst.into(), bits.into()]);
        }
        if lane == 0 {
            return self.op(splat, to, &[dst.into(), src.into()]);
        }
        if from == 16 {
            let order = if size == 4 { 0x55 * i64::from(lane) } else { 0xee };
            let low = self.def(Op::Pshufd, 16, &[src.into(), Arg::Imm(order)]);
            return self.op(splat, to, &[dst.into(), low.into()]);
        }
        let lane = u64::from(lane);
        let order = if size == 4 { lane } else { (2 * lane + 1) << 32 | (2 * lane) };
        let width = to.max(from);
        let order = self.splat(order, size, width);
        self.op(Op::Permd, width, &[dst.into(), order.into(), src.into()]);
    }
}
