//! Statements and loops to instructions; values are in `value` and `memory`.
//!
//! Loops with constant bounds count down, and those of one iteration disappear. Pointers run: see
//! `pointer`. Between what a pointer holds and what it would hold without loops there is a known
//! distance (`ahead`), so that returning a pointer to a row's start and moving it to the next row is
//! one addition.

use super::inst::{Again, Arg, Base, Class, Function, Inst, Mem, VReg};
use super::pointer::{Around, Groups, LoopId, needs_value};
use super::rows::Op;
use super::{Isa, Result};
use crate::base::{Affine, Bound};
use crate::tile::{Addr, Kernel, Lane, LoopVar, Reg, Stmt, Value};
use std::collections::HashMap;

/// Where a group's pointer is.
#[derive(Clone, Copy, Debug)]
pub struct Pointer {
    /// Its register, once loaded.
    pub reg: Option<VReg>,
    /// Bytes it is ahead of the parameter plus the moves of the loops around.
    pub ahead: i64,
}

/// A constant register: the bytes and the widest use.
type Constants = HashMap<(Vec<u8>, usize), (VReg, usize)>;

/// A kernel being translated.
pub struct Select<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) isa: Isa,
    pub(super) f: Function,
    pub(super) groups: Groups,
    pub(super) pointers: Vec<Pointer>,
    pub(super) around: Around,
    /// Values of the loop variables: a register, or a constant in a loop of one iteration.
    pub(super) vars: HashMap<LoopVar, VarValue>,
    regs: Vec<Option<VReg>>,
    /// Registers assigned once, to a constant.
    pub(super) constant_regs: Vec<Option<u64>>,
    constants: Constants,
    masks: HashMap<u32, VReg>,
    args: VReg,
    pub(super) depth: u32,
}

/// What is known of a loop variable.
#[derive(Clone, Copy, Debug)]
pub enum VarValue {
    /// One value.
    Constant(i64),
    /// In a register.
    Reg(VReg),
}

/// Lanes' bytes.
pub fn lane_size(lane: Lane) -> usize {
    match lane {
        Lane::F32 | Lane::I32 | Lane::M32 => 4,
        Lane::F64 | Lane::I64 | Lane::M64 => 8,
    }
}

/// Bytes of the smallest vector that holds so many.
pub fn vector_bytes(bytes: usize) -> usize {
    bytes.next_power_of_two().max(16)
}

fn constant_regs(kernel: &Kernel) -> Vec<Option<u64>> {
    fn walk(body: &[Stmt], defs: &mut [Vec<Option<u64>>]) {
        for stmt in body {
            match stmt {
                Stmt::Let(r, Value::Const(bits)) => defs[*r as usize].push(Some(*bits)),
                Stmt::Let(r, _) => defs[*r as usize].push(None),
                Stmt::For { body, .. } | Stmt::Loop { body } => walk(body, defs),
                Stmt::If { then, otherwise, .. } => {
                    walk(then, defs);
                    walk(otherwise, defs);
                }
                Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => {}
            }
        }
    }
    let mut defs = vec![Vec::new(); kernel.regs.len()];
    walk(&kernel.body, &mut defs);
    defs.iter().map(|d| if let [one] = d[..] { one } else { None }).collect()
}

impl<'a> Select<'a> {
    /// Translates a kernel.
    pub fn run(kernel: &'a Kernel, isa: Isa) -> Result<Function> {
        let mut f = Function::default();
        let args = f.reg(Class::Gpr);
        let groups = Groups::of(kernel);
        let pointers = groups.0.iter().map(|_| Pointer { reg: None, ahead: 0 }).collect();
        let mut select = Select {
            kernel,
            isa,
            f,
            groups,
            pointers,
            around: Vec::new(),
            vars: HashMap::new(),
            regs: vec![None; kernel.regs.len()],
            constant_regs: constant_regs(kernel),
            constants: HashMap::new(),
            masks: HashMap::new(),
            args,
            depth: 0,
        };
        for stmt in &kernel.body {
            select.load_pointers(stmt);
            select.stmt(stmt)?;
        }
        select.op(Op::Ret, 16, &[Arg::Imm(0)]);
        select.prelude();
        Ok(select.f)
    }

    /// Loads the pointers that a statement uses first.
    fn load_pointers(&mut self, stmt: &Stmt) {
        let mut used = Vec::new();
        self.groups.used(self.kernel, std::slice::from_ref(stmt), &mut Vec::new(), &mut used);
        for group in used {
            if self.pointers[group].reg.is_none() {
                let from = Mem::at(Base::Reg(self.args)).offset(8 * i64::from(self.groups.0[group].param));
                let reg = self.f.reg(Class::Gpr);
                self.op(Op::Mov, 16, &[reg.into(), from.into()]);
                self.pointers[group].reg = Some(reg);
            }
        }
    }

    /// Puts the constants before the code.
    fn prelude(&mut self) {
        let code = std::mem::take(&mut self.f.insts);
        self.depth = 0;
        self.op(Op::Arguments, 16, &[self.args.into()]);
        let mut constants: Vec<_> = self.constants.drain().collect();
        constants.sort_by_key(|c| c.1.0);
        for ((bytes, element), (reg, width)) in constants {
            if bytes.iter().all(|&b| b == 0) {
                self.op(Op::Zero, width, &[reg.into()]);
            } else {
                let pool = |f: &mut Function, bytes: &[u8]| Mem::at(Base::Pool(f.constant(bytes)));
                let (op, from) = match element {
                    4 => (Op::Broadcast32, pool(&mut self.f, &bytes[..4])),
                    8 => (Op::Broadcast64, pool(&mut self.f, &bytes[..8])),
                    _ => (Op::Load, pool(&mut self.f, &bytes[..width])),
                };
                self.op(op, width, &[reg.into(), from.into()]);
            }
        }
        let mut masks: Vec<_> = self.masks.drain().collect();
        masks.sort_unstable();
        for (bits, reg) in masks {
            let gpr = self.f.reg(Class::Gpr);
            self.op(Op::MovImm, 16, &[gpr.into(), Arg::Imm(i64::from(bits))]);
            self.op(Op::KFromGpr, 16, &[reg.into(), gpr.into()]);
        }
        self.f.insts.extend(code);
    }

    /// Writes an instruction.
    pub(super) fn op(&mut self, op: Op, width: usize, args: &[Arg]) {
        self.masked(op, width, args, None, false);
    }

    /// Writes an instruction under a mask.
    pub(super) fn masked(&mut self, op: Op, width: usize, args: &[Arg], mask: Option<VReg>, merge: bool) {
        debug_assert_eq!(args.len(), op.operands().len(), "{op:?}");
        self.f.insts.push(Inst { op, width, args: args.to_vec(), mask, merge, depth: self.depth });
    }

    /// Writes an instruction whose first operand is a new register.
    pub(super) fn def(&mut self, op: Op, width: usize, args: &[Arg]) -> VReg {
        let class = match op.operands()[0].kind {
            super::rows::Kind::Mask => Class::Mask,
            super::rows::Kind::Gpr32 | super::rows::Kind::Gpr64 => Class::Gpr,
            _ => Class::Vector,
        };
        let dst = self.f.reg(class);
        let all: Vec<Arg> = std::iter::once(Arg::Reg(dst)).chain(args.iter().copied()).collect();
        self.op(op, width, &all);
        dst
    }

    /// A constant vector that repeats an element of 4 or 8 bytes, in a register.
    pub(super) fn splat(&mut self, bits: u64, element: usize, width: usize) -> VReg {
        let bytes: Vec<u8> = bits.to_le_bytes()[..element].iter().copied().cycle().take(64).collect();
        self.constant(bytes, element, width)
    }

    /// A constant vector of any bytes (completed by zeros to 64), in a register.
    pub(super) fn constant(&mut self, mut bytes: Vec<u8>, element: usize, width: usize) -> VReg {
        bytes.resize(64, 0);
        let key = (bytes, element);
        if let Some((reg, widest)) = self.constants.get_mut(&key) {
            *widest = width.max(*widest);
            return *reg;
        }
        let reg = self.f.reg(Class::Vector);
        self.f.regs[reg as usize].again = Again::Vector(key.0.clone(), element);
        self.constants.insert(key, (reg, width));
        reg
    }

    /// A constant mask of the lowest lanes.
    pub(super) fn lanes_mask(&mut self, lanes: usize) -> VReg {
        let bits = ((1u64 << lanes) - 1) as u32;
        if let Some(&reg) = self.masks.get(&bits) {
            return reg;
        }
        let reg = self.f.reg(Class::Mask);
        self.f.regs[reg as usize].again = Again::Mask(bits);
        self.masks.insert(bits, reg);
        reg
    }

    /// Bytes of the vector that holds a kernel's register.
    pub(super) fn width(&self, r: Reg) -> usize {
        let ty = self.kernel.regs[r as usize];
        vector_bytes(ty.lanes as usize * lane_size(ty.lane))
    }

    /// Whether a kernel's register is held in a mask register.
    pub(super) fn in_mask(&self, r: Reg) -> bool {
        self.isa.masks && matches!(self.kernel.regs[r as usize].lane, Lane::M32 | Lane::M64)
    }

    /// The virtual register of a kernel's register, to be written.
    pub(super) fn target(&mut self, r: Reg) -> VReg {
        if let Some(reg) = self.regs[r as usize] {
            return reg;
        }
        let class = if self.in_mask(r) { Class::Mask } else { Class::Vector };
        let reg = self.f.reg(class);
        self.regs[r as usize] = Some(reg);
        reg
    }

    /// The virtual register of a kernel's register, to be read.
    pub(super) fn source(&mut self, r: Reg) -> VReg {
        match self.constant_regs[r as usize] {
            Some(bits) if !self.in_mask(r) => {
                let (bits, element) = self.constant_bits(r, bits);
                self.splat(bits, element, self.width(r))
            }
            _ => self.target(r),
        }
    }

    /// The bits of a lane and its bytes, for a constant of a register's type.
    pub(super) fn constant_bits(&self, r: Reg, bits: u64) -> (u64, usize) {
        match self.kernel.regs[r as usize].lane {
            Lane::M32 => (if bits & 1 != 0 { 0xffff_ffff } else { 0 }, 4),
            Lane::M64 => (if bits & 1 != 0 { u64::MAX } else { 0 }, 8),
            Lane::F32 | Lane::I32 => (bits & 0xffff_ffff, 4),
            Lane::F64 | Lane::I64 => (bits, 8),
        }
    }

    /// The memory operand of an access, from its first lane.
    pub(super) fn mem(&mut self, addr: &Addr) -> Result<Mem> {
        let size = self.kernel.params[addr.param as usize].dtype.size();
        let group = self.groups.find(self.kernel, addr, &self.around);
        let Pointer { reg, ahead } = self.pointers[group];
        let base = Base::Reg(reg.expect("pointers are loaded before the statement"));
        let disp = size as i64 * addr.index.base - ahead;
        let index = match addr.dynamic {
            None => None,
            Some((r, _)) => {
                let offset = self.source(r);
                Some((self.def(Op::MovqToGpr, 16, &[offset.into()]), size as u32))
            }
        };
        Ok(Mem { index, disp, ..Mem::at(base) })
    }

    fn block(&mut self, body: &[Stmt]) -> Result<()> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(r, Value::Const(_))
                if self.constant_regs[*r as usize].is_some() && !self.in_mask(*r) =>
            {
                Ok(())
            }
            Stmt::Let(r, value) => self.value(*r, value),
            Stmt::Store { addr, stride, src } => self.store(addr, *stride, *src),
            Stmt::For { var, lo, hi, step, body } => {
                match (self.fixed(lo, i64::max), self.fixed(hi, i64::min)) {
                    (Some(lo), Some(hi)) => self.counted(stmt, *var, lo, hi, *step, body),
                    _ => self.bounded(stmt, *var, (lo, hi), *step, body),
                }
            }
            _ => Err("the wide encoder was given control flow it does not take".to_string()),
        }
    }

    /// The value of a bound, where known.
    fn fixed(&self, bound: &Bound, join: fn(i64, i64) -> i64) -> Option<i64> {
        let form = |a: &Affine| {
            a.terms.iter().try_fold(a.base, |sum, (v, c)| match self.vars.get(v) {
                Some(VarValue::Constant(value)) => Some(sum + c * value),
                _ => None,
            })
        };
        bound.0.iter().map(form).reduce(|a, b| Some(join(a?, b?)))?
    }

    /// Moves a pointer.
    fn advance(&mut self, group: usize, bytes: i64) -> Result<()> {
        let reg = self.pointers[group].reg.expect("pointers are loaded before the statement");
        if i32::try_from(bytes).is_err() {
            return Err("a pointer moves more than 2 GiB".to_string());
        }
        if bytes != 0 {
            self.op(Op::AddImm, 16, &[reg.into(), Arg::Imm(bytes)]);
        }
        self.pointers[group].ahead += bytes;
        Ok(())
    }

    /// Groups used inside a loop, with their moves in it.
    fn moving(&self, id: LoopId) -> Vec<(usize, i64)> {
        let groups = self.groups.0.iter().enumerate();
        groups.filter_map(|(g, group)| Some((g, *group.moves.get(&id)?))).collect()
    }

    /// A loop whose bounds are known.
    fn counted(&mut self, id: &Stmt, var: LoopVar, lo: i64, hi: i64, step: i64, body: &[Stmt]) -> Result<()> {
        let trips = if hi > lo { (hi - lo + step - 1) / step } else { 0 };
        if trips == 0 {
            return Ok(());
        }
        let moving = self.moving(id);
        moving.iter().for_each(|&(g, m)| self.pointers[g].ahead -= m * lo);
        self.around.push((id, var));
        if trips == 1 {
            let outer = self.vars.insert(var, VarValue::Constant(lo));
            self.block(body)?;
            self.vars.remove(&var);
            outer.map(|o| self.vars.insert(var, o));
            moving.iter().for_each(|&(g, m)| self.pointers[g].ahead += m * lo);
        } else {
            let up = needs_value(body, var);
            let counter = self.def(Op::MovImm, 16, &[Arg::Imm(if up { lo } else { trips })]);
            self.vars.insert(var, VarValue::Reg(counter));
            self.bias(id, &moving)?;
            let entry = self.pointers.clone();
            let top = self.loop_top();
            self.block(body)?;
            for &(g, m) in &moving {
                self.advance(g, entry[g].ahead + m * step - self.pointers[g].ahead)?;
            }
            if up {
                self.op(Op::AddImm, 16, &[counter.into(), Arg::Imm(step)]);
                self.op(Op::CmpImm, 16, &[counter.into(), Arg::Imm(lo + trips * step)]);
            } else {
                self.op(Op::Dec, 16, &[counter.into()]);
            }
            self.op(Op::Jne, 16, &[Arg::Imm(top)]);
            self.depth -= 1;
            moving
                .iter()
                .for_each(|&(g, m)| self.pointers[g].ahead = entry[g].ahead + m * (lo + trips * step));
            self.vars.remove(&var);
        }
        self.around.pop();
        Ok(())
    }

    fn loop_top(&mut self) -> i64 {
        let top = self.f.label();
        self.depth += 1;
        self.op(Op::Label, 16, &[Arg::Imm(top)]);
        top
    }

    /// Moves pointers before an innermost loop so that most displacements fit one byte.
    fn bias(&mut self, id: LoopId, moving: &[(usize, i64)]) -> Result<()> {
        for &(g, _) in moving {
            let Some(distances) = self.groups.0[g].distances.get(&Some(id)) else { continue };
            let long = |shift: i64| {
                let disp = |d: &&i64| self.isa.long_displacement(*d - self.pointers[g].ahead - shift);
                distances.iter().filter(disp).count()
            };
            let low = distances.iter().min().expect("a group has accesses") - self.pointers[g].ahead;
            let best = [0, low + 128, low].into_iter().min_by_key(|&shift| long(shift)).unwrap_or(0);
            if long(0) >= long(best) + 4 {
                self.advance(g, best)?;
            }
        }
        Ok(())
    }

    /// A loop whose bounds depend on variables outside it.
    fn bounded(
        &mut self,
        id: &Stmt,
        var: LoopVar,
        bounds: (&Bound, &Bound),
        step: i64,
        body: &[Stmt],
    ) -> Result<()> {
        let counter = self.bound(bounds.0, Op::CmovG)?;
        let end = self.bound(bounds.1, Op::CmovL)?;
        let skip = self.f.label();
        self.op(Op::Cmp, 16, &[counter.into(), end.into()]);
        self.op(Op::Jge, 16, &[Arg::Imm(skip)]);
        let outside = self.pointers.clone();
        let moving = self.moving(id);
        for &(g, m) in moving.iter().filter(|(_, m)| *m != 0) {
            let reg = self.scaled_sum(self.pointers[g].reg, counter, m)?;
            self.pointers[g].reg = Some(reg);
        }
        self.around.push((id, var));
        let outer = self.vars.insert(var, VarValue::Reg(counter));
        let entry = self.pointers.clone();
        let top = self.loop_top();
        self.block(body)?;
        for &(g, m) in &moving {
            self.advance(g, entry[g].ahead + m * step - self.pointers[g].ahead)?;
        }
        self.op(Op::AddImm, 16, &[counter.into(), Arg::Imm(step)]);
        self.op(Op::Cmp, 16, &[counter.into(), end.into()]);
        self.op(Op::Jl, 16, &[Arg::Imm(top)]);
        self.depth -= 1;
        self.op(Op::Label, 16, &[Arg::Imm(skip)]);
        self.around.pop();
        self.vars.remove(&var);
        outer.map(|o| self.vars.insert(var, o));
        self.pointers = outside;
        Ok(())
    }

    /// A bound in a register: the largest or smallest of its forms.
    fn bound(&mut self, bound: &Bound, join: Op) -> Result<VReg> {
        let first = self.affine(&bound.0[0])?;
        for form in &bound.0[1..] {
            let other = self.affine(form)?;
            self.op(Op::Cmp, 16, &[other.into(), first.into()]);
            self.op(join, 16, &[first.into(), other.into()]);
        }
        Ok(first)
    }

    /// `base + factor * value`, in a new register.
    fn scaled_sum(&mut self, base: Option<VReg>, value: VReg, factor: i64) -> Result<VReg> {
        let base = base.expect("pointers are loaded before the statement");
        if matches!(factor, 1 | 2 | 4 | 8) {
            let mem = Mem { index: Some((value, factor as u32)), ..Mem::at(Base::Reg(base)) };
            return Ok(self.def(Op::Lea, 16, &[mem.into()]));
        }
        if i32::try_from(factor).is_err() {
            return Err("a pointer moves more than 2 GiB".to_string());
        }
        let product = self.def(Op::ImulImm, 16, &[value.into(), Arg::Imm(factor)]);
        self.op(Op::Add, 16, &[product.into(), base.into()]);
        Ok(product)
    }

    /// An affine form in a new register.
    pub(super) fn affine(&mut self, form: &Affine) -> Result<VReg> {
        let mut base = form.base;
        let mut terms = Vec::new();
        for &(var, factor) in &form.terms {
            match self.vars.get(&var) {
                Some(VarValue::Constant(value)) => base += factor * value,
                Some(&VarValue::Reg(reg)) => terms.push((reg, factor)),
                None => return Err("a loop variable is used outside its loop".to_string()),
            }
        }
        let mut sum = self.def(Op::MovImm, 16, &[Arg::Imm(base)]);
        for (reg, factor) in terms {
            sum = self.scaled_sum(Some(sum), reg, factor)?;
        }
        Ok(sum)
    }
}
