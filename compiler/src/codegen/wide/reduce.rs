//! All lanes of a register folded to one, by halves.

use super::Result;
use super::inst::lane_size;
use super::inst::{Arg, VReg};
use super::rows::Op;
use super::select::Select;
use crate::base::DType;
use crate::scalar::{Fold, Scalar};
use crate::tile::{Bin, Lane, Reg};

impl Select<'_> {
    /// Translates a reduction.
    pub(super) fn reduce(&mut self, r: Reg, fold: Fold, a: Reg) -> Result<()> {
        let ty = self.ty(a);
        if matches!(ty.lane, Lane::M32 | Lane::M64) && self.isa.masks {
            return self.reduce_mask(r, fold, a);
        }
        let size = lane_size(ty.lane);
        let mut width = self.width(a);
        let source = self.source(a);
        let mut vector = self.completed(source, fold, ty.lane, ty.lanes as usize, width)?;
        let mut lanes = (ty.lanes as usize).next_power_of_two();
        if lanes == 1 {
            let dst = self.target(r);
            self.op(Op::Movaps, 16, &[dst.into(), vector.into()]);
            return Ok(());
        }
        while lanes > 1 {
            lanes /= 2;
            let upper = match lanes * size {
                32 => self.def(Op::Extract256, 64, &[vector.into(), Arg::Imm(1)]),
                16 => self.def(Op::Extract128, 32, &[vector.into(), Arg::Imm(1)]),
                8 => self.def(Op::Pshufd, 16, &[vector.into(), Arg::Imm(0xee)]),
                _ => self.def(Op::Pshufd, 16, &[vector.into(), Arg::Imm(0x55)]),
            };
            width = (width / 2).max(16);
            let dst = if lanes == 1 { self.target(r) } else { self.f.reg(super::inst::Class::Vector) };
            self.join_halves(fold, ty.lane, (dst, vector, upper), width)?;
            vector = dst;
        }
        Ok(())
    }

    /// The fold of two vectors.
    fn join_halves(
        &mut self,
        fold: Fold,
        lane: Lane,
        (dst, a, b): (VReg, VReg, VReg),
        width: usize,
    ) -> Result<()> {
        use Fold::*;
        let op = match (fold, lane) {
            (Max, Lane::F32 | Lane::F64) => {
                self.propagate_nan(lane, Bin::MaxNan, (dst, a, b), width);
                return Ok(());
            }
            (Min, Lane::F32 | Lane::F64) => {
                self.propagate_nan(lane, Bin::MinNan, (dst, a, b), width);
                return Ok(());
            }
            (Sum, Lane::F32) => Op::Addps,
            (Sum, Lane::F64) => Op::Addpd,
            (Sum, Lane::I32) => Op::Paddd,
            (Sum, Lane::I64) => Op::Paddq,
            (Prod, Lane::F32) => Op::Mulps,
            (Prod, Lane::F64) => Op::Mulpd,
            (Prod, Lane::I32) => Op::Pmulld,
            (Prod, Lane::I64) => Op::Pmullq,
            (Max, Lane::I32) => Op::Pmaxsd,
            (Max, Lane::I64) => Op::Pmaxsq,
            (Min, Lane::I32) => Op::Pminsd,
            (Min, Lane::I64) => Op::Pminsq,
            (And, Lane::I32 | Lane::I64 | Lane::M32 | Lane::M64) => Op::Pand,
            (Or, Lane::I32 | Lane::I64 | Lane::M32 | Lane::M64) => Op::Por,
            _ => return Err(format!("{} of {lane:?} lanes", fold.name())),
        };
        self.has(op)?;
        self.op(op, width, &[dst.into(), a.into(), b.into()]);
        Ok(())
    }

    /// The vector with the fold's identity in the lanes up to the next power of two.
    fn completed(&mut self, src: VReg, fold: Fold, lane: Lane, lanes: usize, width: usize) -> Result<VReg> {
        if lanes.is_power_of_two() {
            return Ok(src);
        }
        let size = lane_size(lane);
        let bits = match lane {
            Lane::F16 => fold.identity(DType::F16).bits,
            Lane::F32 => fold.identity(DType::F32).bits,
            Lane::F64 => fold.identity(DType::F64).bits,
            Lane::I32 => fold.identity(DType::I32).bits,
            Lane::I64 => fold.identity(DType::I64).bits,
            Lane::M32 | Lane::M64 => Scalar::from_i64(DType::I64, -i64::from(fold == Fold::And)).bits,
        };
        let identity = self.splat(if size == 4 { bits & 0xffff_ffff } else { bits }, size, width);
        if self.isa.masks {
            let mask = self.lanes_mask(lanes);
            let dst = self.f.reg(super::inst::Class::Vector);
            let op = if size == 4 { Op::KBlend32 } else { Op::KBlend64 };
            self.masked(op, width, &[dst.into(), identity.into(), src.into()], Some(mask), false);
            return Ok(dst);
        }
        let words = (1i64 << (lanes * size / 4)) - 1;
        Ok(self.def(Op::Blend, width, &[identity.into(), src.into(), Arg::Imm(words)]))
    }

    fn reduce_mask(&mut self, r: Reg, fold: Fold, a: Reg) -> Result<()> {
        let all = (1i64 << self.ty(a).lanes) - 1;
        let (dst, src) = (self.target(r), self.source(a));
        let bits = self.def(Op::KToGpr, 16, &[src.into()]);
        // Or: any of the lanes. And: none of the lanes' complements.
        match fold {
            Fold::Or => self.op(Op::AndImm, 16, &[bits.into(), Arg::Imm(all)]),
            Fold::And => {
                self.op(Op::XorImm, 16, &[bits.into(), Arg::Imm(all)]);
                self.op(Op::AndImm, 16, &[bits.into(), Arg::Imm(all)]);
                self.op(Op::SubImm, 16, &[bits.into(), Arg::Imm(1)]);
                self.op(Op::AndImm, 16, &[bits.into(), Arg::Imm(1 << 31)]);
            }
            _ => return Err(format!("{} of masks", fold.name())),
        }
        self.op(Op::Neg32, 16, &[bits.into()]);
        self.op(Op::Sbb32, 16, &[bits.into(), bits.into()]);
        self.op(Op::KFromGpr, 16, &[dst.into(), bits.into()]);
        Ok(())
    }
}
