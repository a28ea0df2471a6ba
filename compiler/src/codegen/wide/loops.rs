//! Statements to instructions, and what loops need of the instructions.

use super::Result;
use super::inst::{Arg, Base, Mem, VReg};
use super::rows::Op;
use super::select::Select;
use crate::codegen::blocks::Turned;
use crate::codegen::loops::{Cond, Loop, Loops, Number, Size, Walk};
use crate::codegen::planes::Stored;
use crate::codegen::pointer::LoopId;
use crate::tile::{Stmt, Value};

impl Select<'_> {
    pub(super) fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(r, Value::Const(_)) if self.constant_reg(*r).is_some() && !self.in_mask(*r) => Ok(()),
            Stmt::Let(r, value) => {
                if let Value::Load(addr, _)
                | Value::LoadWords(addr, _)
                | Value::LoadCouples(addr)
                | Value::Lookup(addr, _) = value
                {
                    self.store_waiting_for(addr.param);
                    if let Some(place) = self.walk.groups.asked(stmt).cloned() {
                        let place = self.mem(&place)?;
                        self.op(Op::Prefetch, 16, &[place.into()]);
                    }
                }
                match self.turned.get(&std::ptr::from_ref(stmt)).cloned() {
                    Some(Turned::First(block)) => return self.turn(&block),
                    Some(Turned::Later) => return Ok(()),
                    _ if self.shared.contains(&std::ptr::from_ref(stmt)) => return Ok(()),
                    _ => {}
                }
                self.value(*r, value)?;
                self.assigned(*r);
                Ok(())
            }
            Stmt::Store { addr, stride, src } => match self.planes.get(&std::ptr::from_ref(stmt)).cloned() {
                Some(Stored::Earlier) => Ok(()),
                Some(Stored::Last(planes)) => self.store_planes(&planes),
                None => self.store(addr, *stride, *src),
            },
            _ => {
                self.store_waiting();
                self.nested(stmt)
            }
        }
    }

    /// Translates a statement that contains others or leaves them.
    fn nested(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::For { var, lo, hi, step, body } => {
                self.repeat(Loop { id: stmt, var: *var, step: *step, body }, lo, hi)
            }
            Stmt::Size { var, from, body, .. } => {
                self.size(self.kernel, stmt, Size { var: *var, from, body })
            }
            Stmt::If { cond, then, otherwise } => self.branch(*cond, then, otherwise),
            Stmt::Loop { body } => self.endless(body),
            Stmt::Break { cond } => self.leave(*cond),
            Stmt::Fail { cond, code } => {
                self.fail(*cond, *code);
                Ok(())
            }
            Stmt::Let(..) | Stmt::Store { .. } => Err("a statement without others inside".into()),
        }
    }
}

impl Loops for Select<'_> {
    fn walk(&mut self) -> &mut Walk {
        &mut self.walk
    }

    fn block(&mut self, body: &[Stmt]) -> Result<()> {
        for (i, stmt) in body.iter().enumerate() {
            self.lookups(&body[i..])?;
            self.stmt(stmt)?;
        }
        self.store_waiting();
        Ok(())
    }

    fn number(&mut self, number: i64) -> VReg {
        self.def(Op::MovImm, 16, &[Arg::Imm(number)])
    }

    fn again(&mut self, reg: VReg) -> VReg {
        self.def(Op::Mov, 16, &[reg.into()])
    }

    fn word(&mut self, base: VReg, offset: i64) -> VReg {
        self.def(Op::Mov, 16, &[Mem::at(Base::Reg(base)).offset(offset).into()])
    }

    fn half(&mut self, base: VReg, offset: i64) -> VReg {
        self.def(Op::Mov32, 16, &[Mem::at(Base::Reg(base)).offset(offset).into()])
    }

    fn is_alike(&self) -> bool {
        self.alike
    }

    fn params(&self) -> VReg {
        self.args
    }

    fn add_number(&mut self, reg: VReg, number: i64) -> Result<()> {
        check_move(number)?;
        self.op(Op::AddImm, 16, &[reg.into(), Arg::Imm(number)]);
        Ok(())
    }

    fn product(&mut self, value: VReg, factor: i64) -> Result<VReg> {
        check_move(factor)?;
        Ok(self.def(Op::ImulImm, 16, &[value.into(), Arg::Imm(factor)]))
    }

    fn scaled_sum(&mut self, base: VReg, value: VReg, factor: i64) -> Result<VReg> {
        if matches!(factor, 1 | 2 | 4 | 8) {
            let mem = Mem { index: Some((value, factor as u32)), ..Mem::at(Base::Reg(base)) };
            return Ok(self.def(Op::Lea, 16, &[mem.into()]));
        }
        if factor == -1 {
            let sum = self.again(base);
            self.op(Op::Sub, 16, &[sum.into(), value.into()]);
            return Ok(sum);
        }
        let product = self.product(value, factor)?;
        self.op(Op::Add, 16, &[product.into(), base.into()]);
        Ok(product)
    }

    fn prefer(&mut self, best: VReg, other: VReg, cond: Cond) {
        let op = if cond == Cond::Less { Op::CmovL } else { Op::CmovG };
        self.op(Op::Cmp, 16, &[other.into(), best.into()]);
        self.op(op, 16, &[best.into(), other.into()]);
    }

    fn jump_if(&mut self, a: VReg, cond: Cond, b: Number, label: i64) {
        match b {
            Number::Known(number) => self.op(Op::CmpImm, 16, &[a.into(), Arg::Imm(number)]),
            Number::Reg(b) => self.op(Op::Cmp, 16, &[a.into(), b.into()]),
        }
        let op = match cond {
            Cond::Differ => Op::Jne,
            Cond::Less => Op::Jl,
            Cond::NotLess => Op::Jge,
            Cond::Greater => Op::Jg,
        };
        self.op(op, 16, &[Arg::Imm(label)]);
    }

    fn count_down(&mut self, counter: VReg, label: i64) {
        self.op(Op::Dec, 16, &[counter.into()]);
        self.op(Op::Jne, 16, &[Arg::Imm(label)]);
    }

    fn new_label(&mut self) -> i64 {
        self.f.label()
    }

    fn label(&mut self, label: i64) {
        self.op(Op::Label, 16, &[Arg::Imm(label)]);
        self.derived.clear();
    }

    /// Most displacements shall fit one byte.
    fn settle(&mut self, id: LoopId, moving: &[(usize, i64)]) -> Result<()> {
        if self.alike {
            return Ok(());
        }
        for &(g, _) in moving {
            let ahead = self.walk.pointers[g].ahead;
            let Some(distances) = self.walk.groups.list[g].distances.get(&Some(id)) else { continue };
            let long = |shift: i64| {
                let disp = |d: &&(i64, i64)| self.isa.long_displacement(d.0 - ahead - shift, d.1);
                distances.iter().filter(disp).count()
            };
            let low = distances.iter().map(|d| d.0).min().unwrap_or(ahead) - ahead;
            let units = distances.iter().map(|d| self.isa.displacement_unit(d.1));
            let reach = |unit: i64| low + 128 * unit;
            let (least, most) = (units.clone().min().unwrap_or(1), units.max().unwrap_or(1));
            let shifts = [0, low, reach(1), reach(least), reach(most)];
            let best = shifts.into_iter().min_by_key(|&shift| long(shift)).unwrap_or(0);
            if long(0) >= long(best) + 4 {
                self.advance(g, best)?;
            }
        }
        Ok(())
    }
}

fn check_move(bytes: i64) -> Result<()> {
    i32::try_from(bytes).map(|_| ()).map_err(|_| "a pointer moves more than 2 GiB".to_string())
}
