//! What random statements compute with: registers, constants, places in memory.

use super::{Generator, Held};
use crate::base::Affine;
use crate::tile::range::{self, range};
use crate::tile::{Access, Addr, Bin, Lane, Param, Reg, RegType, Stmt, Value, extends, words_span};

impl Generator<'_> {
    /// An assigned register of a type; loaded or a constant where the pool has none.
    pub(super) fn operand(&mut self, body: &mut Vec<Stmt>, ty: RegType) -> Held {
        let known: Vec<Held> = self.pool.iter().copied().filter(|h| h.ty == ty).collect();
        if !known.is_empty() && self.rng.chance(75) {
            return self.rng.pick(&known);
        }
        self.fresh_operand(body, ty)
    }

    pub(super) fn fresh_operand(&mut self, body: &mut Vec<Stmt>, ty: RegType) -> Held {
        let value = self.fresh(body, ty);
        let stored = match &value {
            Value::Load(addr, _) => self.kernel.params[addr.param as usize].access == Access::ReadWrite,
            _ => false,
        };
        let exact = !stored && self.rng.chance(50);
        let reg = self.new_reg(ty);
        body.push(Stmt::Let(reg, value));
        let held = Held { reg, ty, exact, small: true };
        self.pool.push(held);
        held
    }

    pub(super) fn small_operand(&mut self, body: &mut Vec<Stmt>, ty: RegType) -> Held {
        let held = self.operand(body, ty);
        if held.small || !matches!(ty.lane, Lane::F16 | Lane::F32 | Lane::F64) {
            return held;
        }
        self.fresh_operand(body, ty)
    }

    /// A load, a constant or an index of a type.
    pub(super) fn fresh(&mut self, body: &mut Vec<Stmt>, ty: RegType) -> Value {
        let mut value = match ty.lane {
            Lane::M32 | Lane::M64 => Value::Const(self.rng.bits() & 1),
            _ => self.load(body, ty).unwrap_or_else(|| self.constant(ty.lane)),
        };
        if matches!(ty.lane, Lane::I32 | Lane::I64) && self.rng.chance(15) {
            value = Value::Index(self.affine(3), self.rng.between(-2, 4));
        }
        if (self.words.accept)(ty, &value) { value } else { self.constant(ty.lane) }
    }

    pub(super) fn constant(&mut self, lane: Lane) -> Value {
        let small = self.rng.between(-5, 40);
        Value::Const(match lane {
            Lane::F16 => u64::from(half::f16::from_f64(small as f64 / 8.0).to_bits()),
            Lane::F32 => u64::from((small as f32 / 8.0).to_bits()),
            Lane::F64 => (small as f64 / 8.0).to_bits(),
            Lane::I32 => u64::from(small as u32),
            Lane::I64 => small as u64,
            Lane::M32 | Lane::M64 => small as u64 & 1,
        })
    }

    pub(super) fn affine(&mut self, most: i64) -> Affine {
        let mut form = Affine::constant(self.rng.between(0, 5));
        for i in 0..self.loops.len() {
            if self.rng.chance(70) {
                let var = self.loops[i].var;
                form.add_term(var, self.rng.between(-1, most));
            }
        }
        form
    }

    /// A place for `lanes` lanes, `step` elements apart and `span` long; the parameter grows to hold it.
    pub(super) fn place(
        &mut self,
        body: &mut Vec<Stmt>,
        param: usize,
        lanes: u8,
        step: i64,
        span: i64,
    ) -> Addr {
        let mut index = self.affine(i64::from(self.words.lanes).max(4));
        let loops: Vec<range::Loop> = self
            .loops
            .iter()
            .map(|a| range::Loop { var: a.var, lo: a.lo.clone(), hi: a.hi.clone(), step: a.step })
            .collect();
        let (low, high) = range(&index, &loops).expect("variables of the loops around");
        let across = step * (i64::from(lanes) - 1);
        let shift = -(low + across.min(0)).min(0);
        index.base += shift;
        let end = high + shift + across.max(0) + span;
        let dynamic = (self.words.control && self.rng.chance(15)).then(|| self.computed_index(body));
        let limit = dynamic.map_or(0, |d| d.1);
        let elems = &mut self.kernel.params[param].elems;
        *elems = (*elems).max(end.max(0) as usize + limit);
        Addr { param: param as u32, index, dynamic }
    }

    /// An `i64` clamped to `0..=limit`.
    pub(super) fn computed_index(&mut self, body: &mut Vec<Stmt>) -> (Reg, usize) {
        let ty = RegType { lane: Lane::I64, lanes: 1 };
        let any = self.operand(body, ty);
        let limit = self.rng.between(0, 20);
        let (reg, bound) = (self.new_reg(ty), self.new_reg(ty));
        body.push(Stmt::Let(bound, Value::Const(0)));
        body.push(Stmt::Let(reg, Value::Bin(Bin::Max, any.reg, bound)));
        body.push(Stmt::Let(bound, Value::Const(limit as u64)));
        body.push(Stmt::Let(reg, Value::Bin(Bin::Min, reg, bound)));
        (reg, limit as usize)
    }

    /// A parameter with the given accesses whose elements are held in a lane.
    pub(super) fn param(&mut self, lane: Lane, accesses: [Access; 2]) -> Option<usize> {
        let fits = |p: &Param| lane.holds(p.dtype) && accesses.contains(&p.access);
        let params: Vec<usize> =
            (0..self.kernel.params.len()).filter(|&i| fits(&self.kernel.params[i])).collect();
        (!params.is_empty()).then(|| self.rng.pick(&params))
    }

    pub(super) fn load(&mut self, body: &mut Vec<Stmt>, ty: RegType) -> Option<Value> {
        let param = self.param(ty.lane, [Access::Read, Access::ReadWrite])?;
        if self.kernel.params[param].dtype.size() == 2 && ty.lane == Lane::I32 && self.rng.chance(20) {
            let stride = self.rng.pick(&[0, 4]);
            let (step, span) = words_span(usize::from(ty.lanes), stride, 2);
            return Some(Value::LoadWords(self.place(body, param, ty.lanes, step, span), stride));
        }
        if self.kernel.params[param].dtype.size() == 1 && self.rng.chance(40) {
            if self.rng.chance(25) {
                return Some(Value::LoadCouples(self.place(body, param, ty.lanes, 2, 2)));
            }
            let stride = self.rng.pick(&[0, 1, 2, 3, 3, 4, 4, 4]);
            let (step, span) = words_span(usize::from(ty.lanes), stride, 1);
            return Some(Value::LoadWords(self.place(body, param, ty.lanes, step, span), stride));
        }
        let stride = match self.rng.below(10) {
            0..5 => 1,
            5..8 => 0,
            8 => -1,
            _ => self.rng.between(2, 5),
        };
        Some(Value::Load(self.place(body, param, ty.lanes, stride, 1), stride))
    }

    pub(super) fn store(&mut self, body: &mut Vec<Stmt>, held: Held) {
        let params = 0..self.kernel.params.len();
        let extended = |&i: &usize| {
            let param = &self.kernel.params[i];
            extends(param.dtype, held.ty.lane) && param.access != Access::Read
        };
        let extended = params.into_iter().find(extended).filter(|_| self.rng.chance(20));
        let Some(param) = extended.or_else(|| self.param(held.ty.lane, [Access::Write, Access::ReadWrite]))
        else {
            return;
        };
        let stride = if self.rng.chance(80) { 1 } else { self.rng.between(2, 4) };
        let addr = self.place(body, param, held.ty.lanes, stride, 1);
        body.push(Stmt::Store { addr, stride, src: held.reg });
    }
}
