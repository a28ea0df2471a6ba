//! Addresses with little integer work: running pointers with constant displacements.
//!
//! Accesses are grouped by parameter and by the terms of their index in the loop variables. Each
//! group has one pointer per loop it moves with: set before the loop from the pointer of the outer
//! terms, advanced once per iteration. What differs inside a group is a constant, folded into the
//! instruction. aarch64 takes displacements only up to a limit, so groups are split there into
//! windows.

use super::body::Body;
use super::places::{Extent, Group, Place};
use crate::base::{Affine, Bound};
use crate::error::{Error, Result};
use crate::target::Arch;
use crate::tile::{Addr, Reg, Stmt, Value as TileValue};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::Variable;

impl Body<'_> {
    /// Loads the pointers to the parameters, at the function's entry.
    pub fn load_params(&mut self, args: Value) {
        for param in 0..self.kernel.params.len() as u32 {
            let flags = MemFlagsData::trusted();
            let pointer = self.b.ins().load(types::I64, flags, args, 8 * param as i32);
            let variable = self.b.declare_var(types::I64);
            self.b.def_var(variable, pointer);
            self.pointers.live.insert(Group { param, terms: Vec::new(), bias: 0 }, variable);
        }
    }

    /// A number that is not negative.
    pub fn load_size(&mut self, from: &Addr) -> Result<Value> {
        let size = self.element(from);
        let place = self.place(from, Extent::new(1, size, 1))?;
        let (flags, at) = (MemFlagsData::trusted(), place.offset as i32);
        Ok(match size {
            8 => self.b.ins().load(types::I64, flags, place.pointer, at),
            _ => self.b.ins().uload32(flags, place.pointer, at),
        })
    }

    /// The address of an access.
    pub fn place(&mut self, addr: &Addr, extent: Extent) -> Result<Place> {
        let size = self.element(addr);
        let (group, displacement) = self.group(addr, extent);
        let known = self.pointers.live.get(&group).copied();
        let mut place = match known {
            Some(variable) => Place { pointer: self.b.use_var(variable), offset: displacement - group.bias },
            None => return Err(Error::bug("an index has a variable outside its loop")),
        };
        if let Some((reg, _)) = addr.dynamic {
            let index = self.get_scalar(reg)?;
            let bytes = match size {
                1 => index,
                _ => self.b.ins().ishl_imm_s(index, i64::from(size.trailing_zeros())),
            };
            place.pointer = self.b.ins().iadd(place.pointer, bytes);
        }
        if i32::try_from(place.offset + extent.stride * extent.count as i64 + 64).is_err()
            || i32::try_from(place.offset).is_err()
        {
            let pointer = self.b.ins().iadd_imm_s(place.pointer, place.offset);
            place = Place { pointer, offset: 0 };
        }
        Ok(place)
    }

    fn element(&self, addr: &Addr) -> i64 {
        self.kernel.params[addr.param as usize].dtype.size() as i64
    }

    /// The group of an access and its displacement from the group's terms.
    fn group(&self, addr: &Addr, extent: Extent) -> (Group, i64) {
        let size = self.element(addr);
        let displacement = addr.index.base * size;
        let terms: Vec<_> = self
            .loops
            .iter()
            .map(|&var| (var, addr.index.coefficient(var) * size))
            .filter(|term| term.1 != 0)
            .collect();
        let bias = if terms.is_empty() { 0 } else { self.bias(displacement, extent) };
        (Group { param: addr.param, terms, bias }, displacement)
    }

    /// The constant to move into the pointer so that the rest can be encoded in the instructions.
    fn bias(&self, displacement: i64, extent: Extent) -> i64 {
        if self.target.arch == Arch::X86_64 {
            const HALF: i64 = 1 << 30;
            return if displacement.abs() < HALF { 0 } else { displacement };
        }
        let accesses = extent.accesses();
        let fits = |bias: i64| {
            accesses.iter().all(|&(at, bytes)| {
                let offset = displacement - bias + at;
                let scaled = offset >= 0 && offset % bytes as i64 == 0 && offset / (bytes as i64) < 4096;
                scaled || (-256..256).contains(&offset)
            })
        };
        let widest = accesses.iter().map(|a| a.1).max().unwrap_or(1) as i64;
        let narrowest = accesses.iter().map(|a| a.1).min().unwrap_or(1) as i64;
        let windows = [2048 * widest, 2048 * narrowest, 128, 1];
        let candidates = windows.iter().map(|w| displacement.div_euclid(*w) * w);
        std::iter::once(0).chain(candidates).find(|&bias| fits(bias)).unwrap_or(displacement)
    }

    /// The pointers that move with the innermost loop of `self.loops`, for the accesses in its body.
    pub fn moving(&self, body: &[Stmt]) -> Vec<Group> {
        let var = self.loops[self.loops.len() - 1];
        let mut groups = Vec::new();
        self.visit(body, &mut |addr, extent| {
            if addr.index.coefficient(var) == 0 {
                return;
            }
            let (mut group, _) = self.group(addr, extent);
            // Inner loops will add their terms, and the bias, to a pointer without one.
            if group.terms.len() < addr.index.terms.len() {
                group.bias = 0;
            }
            if !groups.contains(&group) {
                groups.push(group);
            }
        });
        groups
    }

    /// Defines the pointers of a loop at its first value.
    pub fn start_pointers(&mut self, groups: &[Group], lo: &Bound, first: Option<Value>) -> Vec<Variable> {
        let mut variables = Vec::with_capacity(groups.len());
        for group in groups {
            let (_, bytes) = group.terms[group.terms.len() - 1];
            let mut outer = Group { bias: 0, ..group.clone() };
            outer.terms.pop();
            let outer = self.pointers.live[&outer];
            let mut pointer = self.b.use_var(outer);
            let mut constant = group.bias;
            match (lo.as_constant(), first) {
                (Some(lo), _) => constant += lo * bytes,
                (None, Some(first)) => {
                    let moved = self.b.ins().imul_imm_s(first, bytes);
                    pointer = self.b.ins().iadd(pointer, moved);
                }
                (None, None) => unreachable!("a loop with a computed bound has a counter"),
            }
            if constant != 0 {
                pointer = self.b.ins().iadd_imm_s(pointer, constant);
            }
            let variable = self.b.declare_var(types::I64);
            self.b.def_var(variable, pointer);
            self.pointers.live.insert(group.clone(), variable);
            variables.push(variable);
        }
        variables
    }

    /// Advances the pointers of a loop by one iteration.
    pub fn advance_pointers(&mut self, groups: &[Group], variables: &[Variable], step: i64) {
        for (group, &variable) in groups.iter().zip(variables) {
            let (_, bytes) = group.terms[group.terms.len() - 1];
            let pointer = self.b.use_var(variable);
            let next = self.b.ins().iadd_imm_s(pointer, step * bytes);
            self.b.def_var(variable, next);
        }
    }

    /// Forgets the pointers of a loop.
    pub fn end_pointers(&mut self, groups: &[Group]) {
        for group in groups {
            self.pointers.live.remove(group);
        }
    }

    /// Calls `see` with every access in the statements.
    fn visit(&self, body: &[Stmt], see: &mut dyn FnMut(&Addr, Extent)) {
        for stmt in body {
            match stmt {
                Stmt::Let(reg, TileValue::Load(addr, stride)) => see(addr, self.extent(addr, *reg, *stride)),
                Stmt::Let(reg, TileValue::LoadWords(addr, stride)) => see(addr, self.words(*reg, *stride)),
                Stmt::Let(reg, TileValue::LoadCouples(addr)) => see(addr, self.couples(*reg)),
                Stmt::Let(_, TileValue::Lookup(addr, _)) => see(addr, Extent::entry()),
                Stmt::Store { addr, stride, src } => see(addr, self.extent(addr, *src, *stride)),
                Stmt::Size { from, body, .. } => {
                    see(from, Extent::new(1, self.element(from), 1));
                    self.visit(body, see)
                }
                Stmt::For { body, .. } | Stmt::Loop { body } => self.visit(body, see),
                Stmt::If { then, otherwise, .. } => {
                    self.visit(then, see);
                    self.visit(otherwise, see);
                }
                _ => {}
            }
        }
    }

    /// What a load or store of a register touches.
    pub fn extent(&self, addr: &Addr, reg: Reg, stride: i64) -> Extent {
        Extent::new(self.shape(reg).lanes, self.element(addr), stride)
    }

    /// What a load of four-byte words, so many bytes apart, touches.
    pub fn words(&self, reg: Reg, stride: i64) -> Extent {
        Extent::words(self.shape(reg).lanes, stride)
    }

    /// What a load of couples of bytes touches.
    pub fn couples(&self, reg: Reg) -> Extent {
        Extent::new(self.shape(reg).lanes, 2, 1)
    }

    /// The value of an affine form over loop variables that have counters.
    pub fn affine(&mut self, form: &Affine) -> Result<Value> {
        let mut sum = None;
        for &(var, factor) in &form.terms {
            let counter = self.counters[var as usize].ok_or_else(|| {
                Error::bug(format!("{} is used outside its loop", self.kernel.vars[var as usize]))
            })?;
            let counter = self.b.use_var(counter);
            let term = if factor == 1 { counter } else { self.b.ins().imul_imm_s(counter, factor) };
            sum = Some(match sum {
                None => term,
                Some(sum) => self.b.ins().iadd(sum, term),
            });
        }
        Ok(match sum {
            None => self.int(types::I64, form.base),
            Some(sum) if form.base == 0 => sum,
            Some(sum) => self.b.ins().iadd_imm_s(sum, form.base),
        })
    }
}
