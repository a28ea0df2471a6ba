//! A kernel to instructions on virtual registers: the state, constants, operands.
//!
//! Statements and loops are in `loops`, branches in `control`, values in `value`, `convert`, `dot`,
//! `reduce`, and accesses in `memory`.

use super::halved::Parts;
use super::inst::{Again, Arg, Base, Class, Function, Inst, Mem, VReg, lane_size};
use super::rows::Op;
use super::state::{Derived, Eights, Exit, Waiting};
use super::{Isa, Result};
use crate::base::DType;
use crate::codegen::blocks::{Turned, are_bytes, are_words, blocks};
use crate::codegen::loops::{Loops, Walk};
use crate::codegen::planes::{Stored, Takes, planes};
use crate::tile::{Access, Addr, Convert, Kernel, Lane, Reg, Stmt, Value, assignments};
use std::collections::HashMap;

/// A constant register: the bytes and the widest use.
type Constants = HashMap<(Vec<u8>, usize), (VReg, usize)>;

/// A kernel being translated.
pub struct Select<'a> {
    pub(super) kernel: &'a Kernel,
    /// The registers that are parts of others.
    parts: &'a Parts,
    pub(super) isa: Isa,
    /// Instructions do not depend on numbers.
    pub(super) alike: bool,
    pub(super) f: Function,
    pub(super) walk: Walk,
    regs: Vec<Option<VReg>>,
    /// The values of registers assigned in one place.
    single: Vec<Option<&'a Value>>,
    /// What was derived from registers of bytes.
    pub(super) derived: HashMap<(VReg, Derived), VReg>,
    /// Loads that are turned in blocks, see `turned`.
    pub(super) turned: HashMap<*const Stmt, Turned>,
    /// Stores that wait for others, of one buffer.
    pub(super) waiting: Vec<Waiting>,
    /// Stores whose lanes lie apart that are done together.
    pub(super) planes: HashMap<*const Stmt, Stored>,
    /// What was woven last.
    pub(super) eights: Option<Eights>,
    /// The loop of loops around, innermost last, see `control`.
    pub(super) exits: Vec<Exit>,
    /// Labels that return an error code.
    pub(super) failures: Vec<(i64, i32)>,
    /// Lookups that others' instructions do, see `table`.
    pub(super) shared: std::collections::HashSet<*const Stmt>,
    constants: Constants,
    masks: HashMap<u32, VReg>,
    pub(super) args: VReg,
}

/// Bytes of the smallest vector that holds so many.
pub fn vector_bytes(bytes: usize) -> usize {
    bytes.next_power_of_two().max(16)
}

/// 32-bit lanes as a byte each, where they fit.
fn small_lanes(bytes: &[u8]) -> Option<Vec<u8>> {
    let lane = |lane: &[u8]| (lane[1..] == [0; 3]).then_some(lane[0]);
    bytes.chunks(4).map(lane).collect()
}

impl<'a> Select<'a> {
    /// Translates a kernel; `alike`: so that kernels that differ in numbers alone have the same instructions.
    pub fn run((kernel, parts): (&'a Kernel, &'a Parts), isa: Isa, alike: bool) -> Result<Function> {
        let mut f = Function::default();
        let args = f.reg(Class::General);
        let mut select = Select {
            kernel,
            parts,
            isa,
            alike,
            f,
            walk: Walk::new(kernel, i64::MAX, super::ahead::places(kernel)),
            regs: vec![None; kernel.regs.len()],
            single: assignments(kernel)
                .iter()
                .map(|a| if let [one] = a[..] { Some(one) } else { None })
                .collect(),
            derived: HashMap::new(),
            turned: blocks(kernel, |ty, dtype| {
                ty.lanes > 1 && (are_words(ty, dtype) || are_bytes(ty, dtype))
            }),
            waiting: Vec::new(),
            planes: planes(kernel, Takes::ALL),
            eights: None,
            exits: Vec::new(),
            failures: Vec::new(),
            shared: Default::default(),
            constants: HashMap::new(),
            masks: HashMap::new(),
            args,
        };
        for (i, stmt) in kernel.body.iter().enumerate() {
            select.load_pointers(kernel, stmt)?;
            select.lookups(&kernel.body[i..])?;
            select.stmt(stmt)?;
        }
        select.store_waiting();
        select.op(Op::Ret, 16, &[Arg::Imm(0)]);
        select.failures();
        select.prelude();
        select.f.stays = select.walk.read_only(kernel).collect();
        Ok(select.f)
    }

    /// Puts the constants before the code.
    fn prelude(&mut self) {
        let code = std::mem::take(&mut self.f.insts);
        self.walk.depth = 0;
        self.op(Op::Arguments, 16, &[self.args.into()]);
        let mut constants: Vec<_> = self.constants.drain().collect();
        constants.sort_by_key(|c| c.1.0);
        for ((bytes, element), (reg, width)) in constants {
            if bytes.iter().all(|&b| b == 0) {
                self.op(Op::Zero, width, &[reg.into()]);
            } else {
                let pool = |f: &mut Function, bytes: &[u8]| Mem::at(Base::Pool(f.constant(bytes)));
                let (op, from) = match (element, small_lanes(&bytes[..width])) {
                    (4, _) => (Op::Broadcast32, pool(&mut self.f, &bytes[..4])),
                    (8, _) => (Op::Broadcast64, pool(&mut self.f, &bytes[..8])),
                    (_, Some(small)) => (Op::Pmovzxbd, pool(&mut self.f, &small)),
                    _ => (Op::Load, pool(&mut self.f, &bytes[..width])),
                };
                self.op(op, width, &[reg.into(), from.into()]);
            }
        }
        let mut masks: Vec<_> = self.masks.drain().collect();
        masks.sort_unstable();
        for (bits, reg) in masks {
            let gpr = self.f.reg(Class::General);
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
        self.f.insts.push(Inst { op, width, args: args.to_vec(), mask, merge, depth: self.walk.depth });
    }

    /// Writes an instruction whose first operand is a new register.
    pub(super) fn def(&mut self, op: Op, width: usize, args: &[Arg]) -> VReg {
        let class = match op.operands()[0].kind {
            super::rows::Kind::Mask => Class::Mask,
            super::rows::Kind::Gpr32 | super::rows::Kind::Gpr64 => Class::General,
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

    /// The value of a register, where it has only one.
    pub(super) fn single(&self, r: Reg) -> Option<&'a Value> {
        self.single[r as usize]
    }

    /// The bits of a register that is always one constant.
    pub(super) fn constant_reg(&self, r: Reg) -> Option<u64> {
        match self.single(r) {
            Some(Value::Const(bits)) => Some(*bits),
            _ => None,
        }
    }

    /// Forgets what was derived from a register's last value.
    pub(super) fn assigned(&mut self, r: Reg) {
        if let Some(reg) = self.regs[r as usize] {
            self.derived.retain(|key, _| key.0 != reg);
        }
    }

    /// The virtual register of a kernel's register, to be read.
    pub(super) fn source(&mut self, r: Reg) -> VReg {
        if let Some(&(whole, upper)) = self.parts.get(&r) {
            let whole = self.source(whole);
            return match upper {
                true => self.def(Op::Extract256, 64, &[whole.into(), Arg::Imm(1)]),
                false => whole,
            };
        }
        match self.constant_reg(r) {
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
            Lane::F16 => ((bits & 0xffff) * 0x1_0001, 4),
            Lane::F32 | Lane::I32 => (bits & 0xffff_ffff, 4),
            Lane::F64 | Lane::I64 => (bits, 8),
        }
    }

    /// The memory operand of an access, from its first lane.
    pub(super) fn mem(&mut self, addr: &Addr) -> Result<Mem> {
        let (base, disp) = self.walk.place(self.kernel, addr)?;
        let index = match addr.dynamic {
            None => None,
            Some((r, _)) => {
                let size = self.kernel.params[addr.param as usize].dtype.size() as u32;
                Some((self.computed_index(r)?, size))
            }
        };
        Ok(Mem { index, disp, ..Mem::at(Base::Reg(base)) })
    }

    /// A computed index in a general register. One that is a word of a constant table is loaded there.
    fn computed_index(&mut self, r: Reg) -> Result<VReg> {
        let offset = self.source(r);
        if let (None, Some(addr)) = (self.derived.get(&(offset, Derived::Index)), self.table_word(r)) {
            let word = self.mem(addr)?;
            let index = self.def(Op::Mov32, 16, &[word.into()]);
            self.derived.insert((offset, Derived::Index), index);
        }
        Ok(self.derived(offset, Derived::Index, 16))
    }

    /// Where the 32 bits are that a register is, where they are read only and at a known place.
    fn table_word(&self, r: Reg) -> Option<&'a Addr> {
        let Some(Value::Convert(Convert::Zext, word)) = self.single(r) else { return None };
        let Some(Value::Load(addr, _)) = self.single(*word) else { return None };
        let param = &self.kernel.params[addr.param as usize];
        let words = param.access == Access::Read && matches!(param.dtype, DType::I32 | DType::U32);
        (words && addr.dynamic.is_none() && self.kernel.regs[*word as usize].lanes == 1).then_some(addr)
    }
}
