//! The translation of a kernel's statements; the operations are in the sibling files.

use super::places::Pointers;
use super::shape::Shape;
use crate::error::{Error, Result};
use crate::target::Target;
use crate::tile::{Dot, Kernel, LoopVar, Reg, Stmt, Value as TileValue};
use cranelift_codegen::ir::{Block, ConstantData, InstBuilder, Type, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, Variable};

/// The machine values of a register, one per part.
pub(super) type Parts = Vec<Value>;

pub(super) struct Body<'a> {
    pub kernel: &'a Kernel,
    pub target: &'a Target,
    pub b: FunctionBuilder<'a>,
    /// The variables that hold each register, one per part.
    vars: Vec<Vec<Variable>>,
    /// The bits of registers that are assigned once, a constant.
    constants: Vec<Option<u64>>,
    /// The values of the loop variables that are needed as such.
    pub counters: Vec<Option<Variable>>,
    /// The loops around the current statement, outermost first.
    pub loops: Vec<LoopVar>,
    /// Where a `Break` goes.
    pub exits: Vec<Block>,
    pub pointers: Pointers,
}

impl<'a> Body<'a> {
    pub fn new(kernel: &'a Kernel, target: &'a Target, mut b: FunctionBuilder<'a>) -> Self {
        let vars = kernel.regs.iter().map(|&ty| {
            let shape = Shape::of(ty);
            (0..shape.parts()).map(|_| b.declare_var(shape.part())).collect()
        });
        let vars = vars.collect();
        let constants = constants(kernel);
        let counters = vec![None; kernel.vars.len()];
        let (loops, exits, pointers) = (Vec::new(), Vec::new(), Pointers::default());
        Body { kernel, target, b, vars, constants, counters, loops, exits, pointers }
    }

    /// Translates the whole kernel.
    pub fn translate(mut self, config: TargetFrontendConfig) -> Result<()> {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        self.load_params(self.b.block_params(entry)[0]);
        self.statements(&self.kernel.body)?;
        let ok = self.b.ins().iconst(types::I32, 0);
        self.b.ins().return_(&[ok]);
        self.b.seal_all_blocks();
        self.b.finalize(config);
        Ok(())
    }

    pub fn statements(&mut self, body: &[Stmt]) -> Result<()> {
        body.iter().try_for_each(|stmt| self.statement(stmt))
    }

    fn statement(&mut self, stmt: &Stmt) -> Result<()> {
        match stmt {
            Stmt::Let(reg, value) => {
                let parts = self.value(self.shape(*reg), value)?;
                self.set(*reg, &parts)
            }
            Stmt::Store { addr, stride, src } => self.store(addr, *stride, *src),
            Stmt::For { var, lo, hi, step, body } => self.repeat(*var, lo, hi, *step, body),
            Stmt::Size { var, from, body, .. } => self.size(*var, from, body),
            Stmt::If { cond, then, otherwise } => self.branch(*cond, then, otherwise),
            Stmt::Loop { body } => self.forever(body),
            Stmt::Break { cond } => self.leave(*cond),
            Stmt::Fail { cond, code } => self.fail(*cond, *code),
        }
    }

    fn value(&mut self, shape: Shape, value: &TileValue) -> Result<Parts> {
        Ok(match value {
            TileValue::Const(bits) => {
                let value = self.constant(shape, *bits);
                vec![value; shape.parts()]
            }
            TileValue::Index(form, step) => self.index(shape, form, *step)?,
            TileValue::Copy(a) => self.get(*a),
            TileValue::Load(addr, stride) => self.load(shape, addr, *stride)?,
            TileValue::LoadWords(addr, stride) => self.load_words(shape, addr, *stride)?,
            TileValue::LoadCouples(addr) => self.load_couples(shape, addr)?,
            TileValue::Lookup(addr, a) => self.lookup(shape, addr, *a)?,
            TileValue::Un(op, a) => self.unary(*op, *a)?,
            TileValue::Bin(op, a, b) => self.binary(*op, *a, *b)?,
            TileValue::Mla(acc, a, b) | TileValue::Dot(Dot::Bytes, acc, a, b) => self.mla(*acc, *a, *b)?,
            TileValue::Dot(kind, acc, a, b) => self.dot(*kind, *acc, *a, *b)?,
            TileValue::Cmp(op, a, b) => self.compare(*op, *a, *b)?,
            TileValue::Select(mask, a, b) => self.select(*mask, *a, *b)?,
            TileValue::Convert(kind, a) => self.convert(shape, *kind, *a)?,
            TileValue::Splat(a) => self.splat(shape, *a)?,
            TileValue::Broadcast(a, lane) => self.broadcast(shape, *a, usize::from(*lane))?,
            TileValue::Pairs(pairs) => self.pairs(shape, pairs),
            TileValue::Reduce(fold, a) => vec![self.reduce(*fold, *a)?],
        })
    }

    pub fn shape(&self, reg: Reg) -> Shape {
        Shape::of(self.kernel.regs[reg as usize])
    }

    pub fn get(&mut self, reg: Reg) -> Parts {
        let vars = &self.vars[reg as usize];
        vars.iter().map(|&var| self.b.use_var(var)).collect()
    }

    /// The one value of a scalar register.
    pub fn get_scalar(&mut self, reg: Reg) -> Result<Value> {
        if !self.shape(reg).is_scalar() {
            return Err(Error::bug(format!("%{reg} is not a scalar")));
        }
        Ok(self.get(reg)[0])
    }

    fn set(&mut self, reg: Reg, parts: &[Value]) -> Result<()> {
        let vars = &self.vars[reg as usize];
        if vars.len() != parts.len() {
            return Err(Error::bug(format!("%{reg} is assigned a value of another shape")));
        }
        for (&var, &part) in vars.iter().zip(parts) {
            self.b
                .try_def_var(var, part)
                .map_err(|e| Error::bug(format!("%{reg} is assigned a value of another type: {e}")))?;
        }
        Ok(())
    }

    /// The bits of a register known to be constant.
    pub fn known(&self, reg: Reg) -> Option<u64> {
        self.constants[reg as usize]
    }

    /// A part whose every lane has these bits (truth values: 0 or 1).
    pub fn constant(&mut self, shape: Shape, bits: u64) -> Value {
        if shape.is_scalar() {
            return match shape.scalar() {
                types::F32 => self.b.ins().f32const(f32::from_bits(bits as u32)),
                types::F64 => self.b.ins().f64const(f64::from_bits(bits)),
                ty => self.int(ty, bits as i64),
            };
        }
        let bits = if shape.is_mask() { bits.wrapping_neg() } else { bits };
        self.lanes_of(shape.vector(), bits)
    }

    /// A vector whose every lane has these bits.
    pub fn lanes_of(&mut self, ty: Type, bits: u64) -> Value {
        let bytes = (ty.lane_bits() / 8) as usize;
        self.vector(ty, &bits.to_le_bytes()[..bytes].repeat(16 / bytes))
    }

    /// A vector of these 16 bytes.
    pub fn vector(&mut self, ty: Type, bytes: &[u8]) -> Value {
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        self.b.ins().vconst(ty, constant)
    }

    /// An integer of any scalar type.
    pub fn int(&mut self, ty: Type, value: i64) -> Value {
        let mask = u64::MAX >> (64 - ty.bits());
        self.b.ins().iconst(ty, (value as u64 & mask) as i64)
    }
}

/// The registers that are assigned once in the text, a constant.
fn constants(kernel: &Kernel) -> Vec<Option<u64>> {
    fn count(body: &[Stmt], seen: &mut [(u32, Option<u64>)]) {
        for stmt in body {
            match stmt {
                Stmt::Let(reg, value) => {
                    let entry = &mut seen[*reg as usize];
                    entry.0 += 1;
                    entry.1 = if let TileValue::Const(bits) = value { Some(*bits) } else { None };
                }
                Stmt::For { body, .. } | Stmt::Loop { body } | Stmt::Size { body, .. } => count(body, seen),
                Stmt::If { then, otherwise, .. } => {
                    count(then, seen);
                    count(otherwise, seen);
                }
                _ => {}
            }
        }
    }
    let mut seen = vec![(0, None); kernel.regs.len()];
    count(&kernel.body, &mut seen);
    seen.into_iter().map(|(times, bits)| bits.filter(|_| times == 1)).collect()
}
