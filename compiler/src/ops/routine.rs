//! Writes kernels by hand: routines for what no definition says. One call per statement, scalar
//! registers but for plain runs of elements, addresses that are affine in the loops plus a checked
//! computed part.

use super::Ctx;
use super::emit::Val;
use crate::base::{Affine, Bound, DType, abi};
use crate::definition::{Lowering, Operand, Routine, Stage};
use crate::error::Result;
use crate::scalar::{Fold, Scalar};
use crate::tile::{Access, Addr, Bin, Cmp, Convert, Kernel, Lane, Param, Reg, RegType, Stmt, Value};

/// A routine under construction.
pub struct Code {
    kernel: Kernel,
    operands: Vec<Operand>,
    /// The statement lists that are open, innermost last.
    open: Vec<Vec<Stmt>>,
}

/// A place in a parameter: affine in the loops, and a register with its largest value.
#[derive(Clone)]
pub struct Place {
    /// The affine part.
    pub index: Affine,
    /// The computed part: `0..=limit`.
    pub dynamic: Option<(Reg, usize)>,
}

impl From<Affine> for Place {
    fn from(index: Affine) -> Self {
        Place { index, dynamic: None }
    }
}

/// The extents of loops over all points of a shape: one, but where other sizes move its dimensions.
pub fn joined(shape: &[usize], moves: bool) -> Vec<usize> {
    if moves { shape.to_vec() } else { vec![shape.iter().product()] }
}

impl Code {
    /// An empty routine.
    pub fn new(name: &str) -> Self {
        let kernel = Kernel {
            name: name.to_string(),
            params: Vec::new(),
            vars: Vec::new(),
            regs: Vec::new(),
            fused: false,
            body: Vec::new(),
        };
        Code { kernel, operands: Vec::new(), open: vec![Vec::new()] }
    }

    /// Adds a parameter; returns its number. Types that have no arithmetic are moved as their bytes.
    pub fn param(&mut self, name: &str, val: &Val, access: Access) -> u32 {
        let dtype = match val.dtype() {
            d if d.is_small_float() || d.bits() < 8 => DType::U8,
            d => d,
        };
        self.kernel.params.push(Param { name: name.into(), dtype, elems: val.ty.elems(), access });
        self.operands.push(Operand { value: val.id, ty: val.ty.clone() });
        (self.kernel.params.len() - 1) as u32
    }

    /// The lane that holds an element of a parameter.
    pub fn lane(&self, param: u32) -> Lane {
        Lane::of(self.kernel.params[param as usize].dtype)
    }

    fn lane_of(&self, reg: Reg) -> Lane {
        self.kernel.regs[reg as usize].lane
    }

    fn push(&mut self, stmt: Stmt) {
        if let Some(block) = self.open.last_mut() {
            block.push(stmt);
        }
    }

    /// A new register that holds a value.
    pub fn let_(&mut self, lane: Lane, value: Value) -> Reg {
        self.let_lanes(RegType { lane, lanes: 1 }, value)
    }

    /// Assigns a register again.
    pub fn set(&mut self, reg: Reg, value: Value) {
        self.push(Stmt::Let(reg, value));
    }

    fn let_lanes(&mut self, ty: RegType, value: Value) -> Reg {
        self.kernel.regs.push(ty);
        let reg = (self.kernel.regs.len() - 1) as Reg;
        self.push(Stmt::Let(reg, value));
        reg
    }

    /// A constant, rounded to the lane.
    pub fn number(&mut self, lane: Lane, value: f64) -> Reg {
        let dtype = lane.dtype().unwrap_or(DType::Bool);
        self.let_(lane, Value::Const(Scalar::from_f64(dtype, value).bits))
    }

    /// The value of an affine form.
    pub fn index(&mut self, lane: Lane, form: &Affine) -> Reg {
        self.let_(lane, Value::Index(form.clone(), 0))
    }

    /// An operation on two registers.
    pub fn bin(&mut self, op: Bin, a: Reg, b: Reg) -> Reg {
        self.let_lanes(self.kernel.regs[a as usize], Value::Bin(op, a, b))
    }

    /// A comparison.
    pub fn cmp(&mut self, op: Cmp, a: Reg, b: Reg) -> Reg {
        let ty = self.kernel.regs[a as usize];
        self.let_lanes(RegType { lane: ty.lane.mask(), ..ty }, Value::Cmp(op, a, b))
    }

    /// `mask ? a : b`.
    pub fn select(&mut self, mask: Reg, a: Reg, b: Reg) -> Reg {
        let mask = self.beside(mask, a);
        self.let_lanes(self.kernel.regs[a as usize], Value::Select(mask, a, b))
    }

    /// A mask as wide as a register.
    pub fn beside(&mut self, mask: Reg, a: Reg) -> Reg {
        let wide = self.lane_of(a).mask();
        match self.lane_of(mask) {
            same if same == wide => mask,
            _ => self.let_(wide, Value::Convert(Convert::Int, mask)),
        }
    }

    /// A scalar in so many lanes.
    pub fn splat(&mut self, a: Reg, lanes: u8) -> Reg {
        self.let_lanes(RegType { lane: self.lane_of(a), lanes }, Value::Splat(a))
    }

    /// Whether a mask is true in any lane.
    pub fn any(&mut self, mask: Reg) -> Reg {
        self.let_(self.lane_of(mask), Value::Reduce(Fold::Or, mask))
    }

    /// An integer in 64 bits.
    pub fn widen(&mut self, a: Reg) -> Reg {
        match self.lane_of(a) {
            Lane::I64 => a,
            _ => self.let_(Lane::I64, Value::Convert(Convert::Int, a)),
        }
    }

    fn addr(&self, param: u32, place: Place) -> Addr {
        Addr { param, index: place.index, dynamic: place.dynamic }
    }

    /// An element of a parameter.
    pub fn load(&mut self, param: u32, place: impl Into<Place>) -> Reg {
        let addr = self.addr(param, place.into());
        self.let_(self.lane(param), Value::Load(addr, 1))
    }

    /// So many elements in a row of a parameter.
    pub fn load_run(&mut self, param: u32, place: impl Into<Place>, lanes: u8) -> Reg {
        let addr = self.addr(param, place.into());
        self.let_lanes(RegType { lane: self.lane(param), lanes }, Value::Load(addr, 1))
    }

    /// Loops over a run of `count` elements of a parameter: as vectors where its elements are as
    /// wide as lanes, then one by one. The body gets where it stands, and how many elements it does.
    pub fn run(&mut self, param: u32, count: usize, mut body: impl FnMut(&mut Self, Affine, u8)) {
        let dtype = self.kernel.params[param as usize].dtype;
        let lanes = match (self.lane(param), dtype.size()) {
            (Lane::F32 | Lane::I32, 4) => 4,
            (Lane::F64 | Lane::I64, 8) => 2,
            _ => 1,
        };
        let whole = if lanes > 1 { count / lanes } else { 0 };
        self.repeat("v", whole, |code, i| body(code, i.scaled(lanes as i64), lanes as u8));
        self.repeat("r", count - whole * lanes, |code, i| body(code, i.offset((whole * lanes) as i64), 1));
    }

    /// Writes an element of a parameter, or those in a row that a register holds.
    pub fn store(&mut self, param: u32, place: impl Into<Place>, src: Reg) {
        let addr = self.addr(param, place.into());
        self.push(Stmt::Store { addr, stride: 1, src });
    }

    /// Statements repeated for `0..count`; none where the count is 0.
    pub fn repeat(&mut self, name: &str, count: usize, body: impl FnOnce(&mut Self, Affine)) {
        if count == 0 {
            return;
        }
        let var = self.kernel.vars.len() as u32;
        self.kernel.vars.push(format!("{name}{var}"));
        self.open.push(Vec::new());
        body(self, Affine::var(var));
        let body = self.open.pop().unwrap_or_default();
        self.push(Stmt::For {
            var,
            lo: Bound::constant(0),
            hi: Bound::constant(count as i64),
            step: 1,
            body,
        });
    }

    /// Statements repeated for `0..end`, the end affine in the loops around.
    pub fn repeat_to(&mut self, name: &str, end: &Affine, body: impl FnOnce(&mut Self, Affine)) {
        self.repeat_by(name, end, 1, body);
    }

    /// The same in steps of more than one.
    pub fn repeat_by(&mut self, name: &str, end: &Affine, step: i64, body: impl FnOnce(&mut Self, Affine)) {
        let var = self.kernel.vars.len() as u32;
        self.kernel.vars.push(format!("{name}{var}"));
        let body = self.block(|code| body(code, Affine::var(var)));
        self.push(Stmt::For { var, lo: Bound::constant(0), hi: Bound(vec![end.clone()]), step, body });
    }

    fn block(&mut self, body: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.open.push(Vec::new());
        body(self);
        self.open.pop().unwrap_or_default()
    }

    /// Statements that run where a mask is true.
    pub fn when(&mut self, cond: Reg, body: impl FnOnce(&mut Self)) {
        let then = self.block(body);
        self.push(Stmt::If { cond, then, otherwise: Vec::new() });
    }

    /// Statements repeated until a break.
    pub fn forever(&mut self, body: impl FnOnce(&mut Self)) {
        let body = self.block(body);
        self.push(Stmt::Loop { body });
    }

    /// Leaves the innermost [`Code::forever`] where a mask is true.
    pub fn break_if(&mut self, cond: Reg) {
        self.push(Stmt::Break { cond });
    }

    /// Loops over all points of a shape; the body gets the flat index and the index of each
    /// dimension.
    pub fn points(&mut self, shape: &[usize], body: impl FnOnce(&mut Self, Affine, Vec<Affine>)) {
        fn nest(
            code: &mut Code,
            shape: &[usize],
            flat: Affine,
            mut index: Vec<Affine>,
            body: impl FnOnce(&mut Code, Affine, Vec<Affine>),
        ) {
            let Some((&extent, rest)) = shape.split_first() else { return body(code, flat, index) };
            let inner: usize = rest.iter().product();
            code.repeat("i", extent, |code, i| {
                let flat = flat.plus_scaled(&i, inner as i64);
                index.push(i);
                nest_boxed(code, rest, flat, index, Box::new(body));
            });
        }
        fn nest_boxed(
            code: &mut Code,
            shape: &[usize],
            flat: Affine,
            index: Vec<Affine>,
            body: Box<dyn FnOnce(&mut Code, Affine, Vec<Affine>) + '_>,
        ) {
            nest(code, shape, flat, index, body);
        }
        if !shape.contains(&0) {
            nest_boxed(self, shape, Affine::constant(0), Vec::new(), Box::new(body));
        }
    }

    /// Counts an index from the front and ends the run with an error where it lies outside
    /// `0..extent`.
    pub fn checked_index(&mut self, index: Reg, extent: usize) -> Reg {
        let index = self.widen(index);
        let (zero, end) = (self.number(Lane::I64, 0.0), self.number(Lane::I64, extent as f64));
        let negative = self.cmp(Cmp::Lt, index, zero);
        let moved = self.bin(Bin::Add, index, end);
        let index = self.select(negative, moved, index);
        let outside = self.cmp(Cmp::LeU, end, index);
        self.fail_if(outside, abi::ERR_INDEX);
        index
    }

    /// Ends the run with an error where a mask is true.
    pub fn fail_if(&mut self, cond: Reg, code: i32) {
        self.push(Stmt::Fail { cond, code });
    }

    /// Loops over all elements of a shape in their order: as a run where its lengths are known, which vectors
    /// need, and else dimension by dimension. The body gets the flat index, and how many elements it does.
    pub fn all(
        &mut self,
        param: u32,
        shape: &[usize],
        moves: bool,
        mut body: impl FnMut(&mut Self, Affine, u8),
    ) {
        match moves {
            true => self.points(shape, |code, flat, _| body(code, flat, 1)),
            false => self.run(param, shape.iter().product(), body),
        }
    }

    /// Copies all elements of input `i`, which is one parameter, to another.
    pub fn copy(&mut self, ctx: &Ctx, i: usize, [from, to]: [u32; 2]) -> Result<()> {
        self.all(from, ctx.shape(i)?, ctx.moves(i, 0), |code, at, lanes| {
            let elements = code.load_run(from, at.clone(), lanes);
            code.store(to, at, elements);
        });
        Ok(())
    }

    /// The routine.
    pub fn routine(mut self) -> Routine {
        self.kernel.body = self.open.pop().unwrap_or_default();
        Routine { operands: self.operands, kernel: self.kernel }
    }

    /// Adds the routine to a lowering.
    pub fn finish(self, low: &mut Lowering) {
        low.stages.push(Stage::Routine(self.routine()));
    }
}
