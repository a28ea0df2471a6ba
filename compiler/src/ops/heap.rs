//! A heap in two temporaries, values and their positions: what picks the best elements of many.

use super::emit::{Emit, Val};
use super::routine::{Code, Place};
use crate::base::{Affine, DType, TensorType};
use crate::tile::{Access, Bin, Cmp, Convert, Lane, Reg, Value};

/// A value and its position: registers.
pub type Item = (Reg, Reg);

/// A heap whose root comes first, or last, in the order of values and, among equal ones, positions.
pub struct Heap {
    values: u32,
    places: u32,
    room: usize,
    largest: bool,
    unsigned: bool,
    /// Whether the root is what comes last.
    last_first: bool,
}

/// Lanes of values of a type and of their positions, equally wide.
fn places_of(dtype: DType) -> DType {
    if matches!(dtype, DType::F64 | DType::I64 | DType::U64) { DType::I64 } else { DType::I32 }
}

impl Heap {
    /// With room for so many items of a type; largest values come first, or smallest.
    pub fn new(e: &mut Emit, code: &mut Code, dtype: DType, room: usize, largest: bool) -> Heap {
        let list = |e: &mut Emit, what: &str, ty: TensorType| -> Val { e.temp(what, ty.dtype, ty.shape) };
        let values = list(e, "heap", TensorType::new(dtype, [room]));
        let places = list(e, "heap_places", TensorType::new(places_of(dtype), [room]));
        Heap {
            values: code.param("heap", &values, Access::ReadWrite),
            places: code.param("heap_places", &places, Access::ReadWrite),
            room,
            largest,
            unsigned: matches!(dtype, DType::U32 | DType::U64),
            last_first: false,
        }
    }

    /// The same, with what comes last at the root.
    pub fn last_first(self) -> Heap {
        Heap { last_first: true, ..self }
    }

    /// Lanes of values and of positions.
    pub fn lanes(&self, code: &Code) -> (Lane, Lane) {
        (code.lane(self.values), code.lane(self.places))
    }

    fn place(&self, at: Reg) -> Place {
        Place { index: Affine::constant(0), dynamic: Some((at, self.room.saturating_sub(1))) }
    }

    /// The item at a computed place.
    pub fn load(&self, code: &mut Code, at: Reg) -> Item {
        (code.load(self.values, self.place(at)), code.load(self.places, self.place(at)))
    }

    /// Writes the item at a computed place.
    pub fn store(&self, code: &mut Code, at: Reg, item: Item) {
        code.store(self.values, self.place(at), item.0);
        code.store(self.places, self.place(at), item.1);
    }

    /// Whether value `a` is better than `b`.
    pub fn better(&self, code: &mut Code, a: Reg, b: Reg) -> Reg {
        match (self.largest, self.unsigned) {
            (true, false) => code.cmp(Cmp::Gt, a, b),
            (false, false) => code.cmp(Cmp::Lt, a, b),
            (true, true) => code.cmp(Cmp::LtU, b, a),
            (false, true) => code.cmp(Cmp::LtU, a, b),
        }
    }

    /// Whether `a` is nearer to the root than `b`.
    fn above(&self, code: &mut Code, a: Item, b: Item) -> Reg {
        let (a, b) = if self.last_first { (b, a) } else { (a, b) };
        let better = self.better(code, a.0, b.0);
        let (equal, earlier) = (code.cmp(Cmp::Eq, a.0, b.0), code.cmp(Cmp::Lt, a.1, b.1));
        let earlier = code.bin(Bin::And, equal, earlier);
        code.bin(Bin::Or, better, earlier)
    }

    /// Puts an item in the place `hole` of the first `size` items, or below it.
    pub fn sift(&self, code: &mut Code, hole: Reg, size: Reg, item: Item) {
        let one = code.number(Lane::I64, 1.0);
        let hole = code.let_(Lane::I64, Value::Copy(hole));
        let end = code.bin(Bin::Sub, size, one);
        code.forever(|code| {
            let twice = code.bin(Bin::Add, hole, hole);
            let left = code.bin(Bin::Add, twice, one);
            let outside = code.cmp(Cmp::Lt, end, left);
            code.break_if(outside);
            let right = code.bin(Bin::Add, left, one);
            let right = code.bin(Bin::Min, right, end);
            let (l, r) = (self.load(code, left), self.load(code, right));
            let second = self.above(code, r, l);
            let child = (code.select(second, r.0, l.0), code.select(second, r.1, l.1));
            let done = self.above(code, item, child);
            code.break_if(done);
            self.store(code, hole, child);
            let wide = match self.lanes(code).0 {
                Lane::F64 | Lane::I64 => second,
                _ => code.let_(Lane::M64, Value::Convert(Convert::Int, second)),
            };
            code.set(hole, Value::Select(wide, right, left));
        });
        self.store(code, hole, item);
    }

    /// Orders the first `size` items as a heap.
    pub fn build(&self, code: &mut Code, size: Reg) {
        let (zero, one) = (code.number(Lane::I64, 0.0), code.number(Lane::I64, 1.0));
        let hole = code.bin(Bin::ShrS, size, one);
        code.forever(|code| {
            let done = code.cmp(Cmp::Le, hole, zero);
            code.break_if(done);
            code.set(hole, Value::Bin(Bin::Sub, hole, one));
            let item = self.load(code, hole);
            self.sift(code, hole, size, item);
        });
    }

    /// Takes the root of `size` items, which are one fewer then.
    pub fn pop(&self, code: &mut Code, size: Reg) -> Item {
        let (zero, one) = (code.number(Lane::I64, 0.0), code.number(Lane::I64, 1.0));
        let root = self.load(code, zero);
        code.set(size, Value::Bin(Bin::Sub, size, one));
        let item = self.load(code, size);
        self.sift(code, zero, size, item);
        root
    }
}
