//! What is computed between two quantizations, by fewer operations.
//!
//! Where bytes are brought to floats, scaled, and divided by the scale of another quantization, each step rounds:
//! what is concatenated with a scale of its own, multiplied by a factor per channel or by another byte, or quantized
//! for the second time. Of a byte there are 256: a product, a sum or both are taken that round to the same
//! integers for each of them, in every channel. Their constants lie where some of the definition's did.

use super::fitted::{Form, Points, found};
use super::grid::{BYTES, Cone, Data, Grid, known, replaceable, users_are};
use super::requantize::Requantized;
use crate::base::{Affine, DType};
use crate::scalar::{Op, Scalar};
use crate::schedule::Linear;
use crate::schedule::linear::Node;

/// The most channels that are tried.
const CHANNELS: usize = 1 << 11;
/// Instructions of a quotient by a constant.
const QUOTIENT: usize = 3;

/// Puts fewer operations in place of each chain between two quantizations, as far as they give the same: operands
/// that hold their constants then, and their new elements. `data` gives the bytes of constant operands.
pub fn scaled<'a>(linear: &mut Linear, data: impl Fn(u32) -> Option<&'a [u8]>) -> Vec<(u32, Vec<u8>)> {
    let mut new: Vec<(u32, Vec<u8>)> = Vec::new();
    for id in 0..linear.nodes.len() as u32 {
        let Node::Cast { to, arg, .. } = linear.nodes[id as usize] else { continue };
        let Some(found) = Requantized::of(linear, arg, to).filter(|_| to.bits() == 8) else { continue };
        let whole = |operand: u32| data(operand).filter(|_| new.iter().all(|(o, _)| *o != operand));
        let Some(chain) = Chain::of(linear, &found, arg, &whole) else { continue };
        if let Some((form, constants)) = chain.solved() {
            let (nodes, slots) = (chain.nodes(form, &constants), chain.free.clone());
            write(linear, nodes, &slots);
            new.extend(constants.into_iter().map(|c| (c.room.operand, c.bytes())));
        }
    }
    new
}

/// Writes nodes, each by the numbers of those that it reads ([`Arg`]), to the last of some places.
fn write(linear: &mut Linear, nodes: Vec<(Node, DType)>, free: &[u32]) {
    let (unused, slots) = free.split_at(free.len() - nodes.len());
    for &id in unused {
        let none = Scalar { dtype: linear.types[id as usize], bits: 0 };
        linear.nodes[id as usize] = Node::Const(none);
    }
    for ((mut node, dtype), &slot) in nodes.into_iter().zip(slots) {
        if let Node::Op(_, args) = &mut node {
            args.iter_mut().for_each(|arg| *arg = arg.checked_sub(NEW).map_or(*arg, |i| slots[i as usize]));
        }
        linear.nodes[slot as usize] = node;
        linear.types[slot as usize] = dtype;
    }
}

/// Arguments from here on are nodes that are written together.
const NEW: u32 = 1 << 31;

/// A load whose constants others can take the place of.
#[derive(Clone, Copy, Debug)]
struct Room {
    load: u32,
    operand: u32,
    /// A constant per channel.
    wide: bool,
}

/// New constants, by channel or one.
struct Constants {
    room: Room,
    numbers: Vec<f32>,
}

impl Constants {
    fn bytes(&self) -> Vec<u8> {
        self.numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }
}

/// What is computed of one byte, or as a product of two, until it is rounded.
struct Chain<'a, 'd> {
    linear: &'a Linear,
    data: &'a Data<'d, 'a>,
    cone: Cone,
    value: u32,
    /// The bytes as floats, less their zero points.
    from: Vec<u32>,
    /// Expressions behind these that nothing else uses, the last one what is rounded.
    free: Vec<u32>,
    rooms: Vec<Room>,
    channels: usize,
    cost: usize,
    /// What the result rounds to is only told apart between these.
    steps: std::ops::Range<i64>,
}

impl<'a, 'd> Chain<'a, 'd> {
    fn of(
        linear: &'a Linear,
        found: &Requantized,
        arg: u32,
        data: &'a Data<'d, 'a>,
    ) -> Option<Chain<'a, 'd>> {
        let value = found.value;
        let cone = Cone::of(linear, value, &|id| known(linear, id, data));
        let product = |id: &u32| {
            let floats = linear.types[*id as usize] == DType::F32;
            !matches!(linear.nodes[*id as usize], Node::Op(Op::Add | Op::Sub | Op::Select, _)) || !floats
        };
        let possible = cone.bytes.len() == 1 || (cone.bytes.len() == 2 && cone.nodes.iter().all(product));
        if !possible || !only(linear, value, arg) {
            return None;
        }
        let of_bytes = cone.of_bytes(linear);
        let is_from = |id: &u32| is_float_of(linear, *id) && of_bytes[*id as usize];
        let from: Vec<u32> = cone.nodes.iter().copied().filter(is_from).collect();
        let behind = *from.last()?;
        let cost = cone.nodes.iter().filter(|&&id| id > from[0]).map(|&id| cost(linear, id)).sum();
        let mut own = vec![value];
        for &id in cone.nodes.iter().rev().skip(1) {
            if users_are(linear, id, &own) {
                own.push(id);
            }
        }
        own.reverse();
        let (channels, place) = channels(linear, &cone.nodes, data)?;
        let wide = |id: u32| place.as_ref().filter(|p| addr(linear, id) == Some(*p)).is_some();
        let room = |&load: &u32| Some(Room { load, operand: replaceable(linear, load)?, wide: wide(load) });
        let rooms: Vec<Room> = own.iter().filter_map(room).collect();
        let free = own.into_iter().filter(|&id| id > behind).collect();
        let steps = found.steps(linear, data)?;
        (from.len() == cone.bytes.len() && (from.len() == 1 || channels == 1)).then_some(Chain {
            linear,
            data,
            cone,
            value,
            from,
            free,
            rooms,
            channels,
            cost,
            steps,
        })
    }

    /// The first form that gives the same with fewer operations, and its constants.
    fn solved(&self) -> Option<(Form, Vec<Constants>)> {
        let both = self.from.len() - 1;
        let fits = |form: &Form| {
            form.cost() + both < self.cost
                && form.constants() <= self.rooms.len()
                && (both == 0 || *form == Form::Product)
                && self.nodes_of(*form) <= self.free.len()
        };
        let mut forms = Form::ALL.into_iter().filter(fits).peekable();
        forms.peek()?;
        let points: Vec<Points> = (0..self.channels).map(|c| self.points(c)).collect::<Option<_>>()?;
        forms.find_map(|form| self.constants(form, &points).map(|constants| (form, constants)))
    }

    fn nodes_of(&self, form: Form) -> usize {
        let two = self.from.len() - 1;
        two + match form {
            Form::Product | Form::Sum => 2,
            Form::Both => 4,
            Form::Sides => 6,
        }
    }

    /// Constants of a form in rooms where they give the same.
    fn constants(&self, form: Form, points: &[Points]) -> Option<Vec<Constants>> {
        let (wide, one): (Vec<Room>, Vec<Room>) =
            self.rooms.iter().partition(|room| room.wide || self.channels == 1);
        let choices: Vec<Vec<Room>> = match (form.constants(), &wide[..], &one[..]) {
            (1, rooms, others) => rooms.iter().chain(others).take(1).map(|&r| vec![r]).collect(),
            (_, &[a, b, ..], _) => vec![vec![a, b]],
            (_, &[a], &[b, ..]) => vec![vec![a, b], vec![b, a]],
            _ => Vec::new(),
        };
        choices.into_iter().find_map(|rooms| {
            let shared = rooms.iter().position(|room| !room.wide && self.channels > 1);
            let numbers = found(form, points, shared)?;
            let one = |i: usize, room: &Room| {
                let count = if room.wide { self.channels } else { 1 };
                numbers[..count].iter().map(|n| n[i]).collect()
            };
            let constants =
                rooms.iter().enumerate().map(|(i, &room)| Constants { room, numbers: one(i, &room) });
            Some(constants.collect())
        })
    }

    /// A form's expressions, arguments first.
    fn nodes(&self, form: Form, constants: &[Constants]) -> Vec<(Node, DType)> {
        let float = |node: Node| (node, DType::F32);
        let op = |op: Op, args: [u32; 2]| float(Node::Op(op, args.to_vec()));
        let load = |i: usize| float(self.linear.nodes[constants[i].room.load as usize].clone());
        let new = |i: u32| NEW + i;
        match (form, &self.from[..]) {
            (Form::Both, &[x, ..]) => {
                vec![load(0), op(Op::Mul, [x, new(0)]), load(1), op(Op::Add, [new(1), new(2)])]
            }
            (Form::Sides, &[x, ..]) => vec![
                load(0),
                load(1),
                float(Node::Const(Scalar::from_f64(DType::F32, 0.0))),
                (Node::Op(Op::Lt, vec![x, new(2)]), DType::Bool),
                float(Node::Op(Op::Select, vec![new(3), new(0), new(1)])),
                op(Op::Mul, [x, new(4)]),
            ],
            (_, &[x, y, ..]) => vec![op(Op::Mul, [x, y]), load(0), op(Op::Mul, [new(0), new(1)])],
            (Form::Sum, &[x, ..]) => vec![load(0), op(Op::Add, [x, new(0)])],
            (_, from) => vec![load(0), op(Op::Mul, [from[0], new(0)])],
        }
    }

    /// What the bytes become in a channel.
    fn points(&self, channel: usize) -> Option<Points> {
        let constant = |id: u32| {
            known(self.linear, id, self.data).or_else(|| {
                let operand = match &self.linear.nodes[id as usize] {
                    Node::Load { operand, .. } if self.linear.types[id as usize] == DType::F32 => *operand,
                    _ => return None,
                };
                let bytes = (self.data)(operand)?.get(4 * channel..4 * channel + 4)?;
                Some(f64::from(f32::from_le_bytes(bytes.try_into().ok()?)))
            })
        };
        let grids = |rounded: bool| self.cone.grids(self.linear, &constant, rounded);
        let (rounded, exact) = (grids(true)?, grids(false)?);
        let take = |mut grids: Vec<Option<Grid>>, id: u32| grids[id as usize].take();
        let from: Vec<Grid> =
            self.from.iter().map(|&id| rounded[id as usize].clone()).collect::<Option<_>>()?;
        let from = match &from[..] {
            [x, y] => Grid::of(&[x, y], &|n| n[0] * n[1]),
            _ => from.into_iter().next()?,
        };
        let (rounded, exact) = (take(rounded, self.value)?, take(exact, self.value)?);
        let whole = BYTES.pow(self.from.len() as u32);
        let all = [&from, &rounded, &exact].iter().all(|g| g.numbers.len() == whole);
        all.then(|| Points::new(from.numbers, &rounded.numbers, exact.numbers, self.steps.clone()))
    }
}

/// Instructions that an expression takes.
fn cost(linear: &Linear, id: u32) -> usize {
    match &linear.nodes[id as usize] {
        Node::Op(Op::Div, _) => QUOTIENT,
        Node::Op(..) if linear.types[id as usize] != DType::I32 => 1,
        _ => 0,
    }
}

/// Whether an expression is an integer as a float.
fn is_float_of(linear: &Linear, id: u32) -> bool {
    let integer = |id: u32| linear.types[id as usize].is_int();
    matches!(linear.nodes[id as usize], Node::Cast { to: DType::F32, arg, .. } if integer(arg))
}

/// Whether all that a value is used for ends in the argument of a conversion.
fn only(linear: &Linear, value: u32, arg: u32) -> bool {
    let mut inside = vec![false; linear.nodes.len()];
    inside[value as usize] = true;
    for id in value..=arg {
        inside[id as usize] |= linear.nodes[id as usize].args().iter().any(|&a| inside[a as usize]);
    }
    let outside = (0u32..).zip(&linear.nodes).filter(|(id, _)| !inside[*id as usize]);
    let used = |n: &Node| n.args().iter().any(|&a| a != arg && inside[a as usize]);
    let results = [Some(linear.finish), linear.fold.map(|f| f.2)];
    !outside.map(|(_, n)| n).any(used) && !results.into_iter().flatten().any(|id| inside[id as usize])
}

fn addr(linear: &Linear, id: u32) -> Option<&Affine> {
    match &linear.nodes[id as usize] {
        Node::Load { addr, .. } => Some(addr),
        _ => None,
    }
}

/// How many channels the constants of a chain have, and where they lie.
fn channels(linear: &Linear, nodes: &[u32], data: &Data) -> Option<(usize, Option<Affine>)> {
    let (mut channels, mut place) = (1, None);
    for &id in nodes {
        let Node::Load { operand, addr, dynamic, guards, .. } = &linear.nodes[id as usize] else { continue };
        let elems = linear.buffers[*operand as usize].elems;
        if linear.types[id as usize] != DType::F32 || elems == 1 {
            continue;
        }
        let plain = dynamic.is_empty() && guards.is_empty() && data(*operand).is_some();
        let same = place.as_ref().is_none_or(|p| p == addr) && (channels == 1 || channels == elems);
        if !plain || !same || elems > CHANNELS {
            return None;
        }
        (channels, place) = (elems, Some(addr.clone()));
    }
    Some((channels, place))
}

#[cfg(test)]
mod tests {
    use super::super::requantize;
    use super::*;
    use crate::base::TensorType;
    use crate::definition::{DefBuilder, Definition, ExprId};
    use crate::nest::nest;
    use crate::schedule::Schedule;
    use crate::schedule::choose::choose;
    use crate::schedule::linear::{Layout, Magnitude};
    use crate::target::resolve;
    use crate::tile::interpret;

    const CHANNELS: usize = 19;

    /// What stands between the two quantizations.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Between {
        /// Scales alone.
        Scales,
        /// A factor per channel.
        Factors,
        /// A number per channel that is added.
        Numbers,
        /// Both of these.
        Both,
        /// A factor per channel where it is negative.
        Sides,
        /// Another byte.
        Bytes,
        /// The byte times itself.
        Square,
    }

    fn quantized(b: &mut DefBuilder, value: ExprId, zero: f64) -> ExprId {
        let nearest = b.op(Op::Round, &[value]);
        requantize::tests::quantized(b, nearest, zero)
    }

    fn dequantized(b: &mut DefBuilder, byte: ExprId, scale: u32) -> ExprId {
        let (byte, zero) = (b.cast(DType::I32, byte), b.number(DType::I32, -3.0));
        let less = b.op(Op::Sub, &[byte, zero]);
        let (number, scale) =
            (b.cast(DType::F32, less), b.load(scale, &TensorType::new(DType::F32, []), vec![]));
        b.op(Op::Mul, &[number, scale])
    }

    /// `q(between((x + 3) * in1) / in2)`, of each byte in each channel, whose numbers are in `in3` and `in4`.
    fn definition(between: Between) -> Definition {
        let y = TensorType::new(DType::I8, [BYTES, CHANNELS]);
        let (float, each) = (TensorType::new(DType::F32, []), TensorType::new(DType::F32, [CHANNELS]));
        let mut b = DefBuilder::new(&y.shape);
        let (row, column) = (b.var(0), b.var(1));
        let x = b.load(0, &TensorType::new(DType::I8, [BYTES]), vec![row]);
        let mut value = dequantized(&mut b, x, 1);
        if matches!(between, Between::Factors | Between::Both) {
            let factor = b.load(3, &each, vec![column.clone()]);
            value = b.op(Op::Mul, &[value, factor]);
        }
        if matches!(between, Between::Numbers | Between::Both) {
            let number = b.load(4, &each, vec![column.clone()]);
            value = b.op(Op::Add, &[value, number]);
        }
        if between == Between::Sides {
            let (zero, factor) = (b.number(DType::F32, 0.0), b.load(3, &each, vec![column.clone()]));
            let (below, part) = (b.op(Op::Lt, &[value, zero]), b.op(Op::Mul, &[value, factor]));
            value = b.op(Op::Select, &[below, part, value]);
        }
        if between == Between::Bytes {
            let other = b.load(5, &TensorType::new(DType::I8, [CHANNELS]), vec![column]);
            let other = dequantized(&mut b, other, 6);
            value = b.op(Op::Mul, &[value, other]);
        }
        if between == Between::Square {
            value = b.op(Op::Mul, &[value, value]);
        }
        let to = b.load(2, &float, vec![]);
        value = b.op(Op::Div, &[value, to]);
        let byte = quantized(&mut b, value, -5.0);
        b.finish("scaled", 7, &y, byte)
    }

    fn data(operand: u32, between: Between) -> Vec<u8> {
        let float = |v: f32| v.to_le_bytes();
        match operand {
            0 => (0..BYTES).map(|i| i as u8).collect(),
            1 => float(0.037).to_vec(),
            2 => float(if between == Between::Numbers { 0.037 } else { 0.0521 }).to_vec(),
            3 => (0..CHANNELS).flat_map(|c| float(0.9 - 0.173 * c as f32)).collect(),
            4 => (0..CHANNELS).flat_map(|c| float(0.31 * c as f32 - 2.2)).collect(),
            5 => (0..CHANNELS).map(|c| (c * 13 + 2) as u8).collect(),
            _ => float(0.0193).to_vec(),
        }
    }

    fn run(linear: &Linear, schedule: &Schedule, fused: bool, buffers: &[Vec<u8>]) -> Vec<u8> {
        let nested = nest(linear, schedule, fused, 1).unwrap();
        crate::tile::verify(&nested.kernel).unwrap_or_else(|e| panic!("{e}"));
        let packed = (0u32..).zip(buffers).map(|(i, b)| nested.packed(linear, i, b).unwrap_or(b.clone()));
        let mut buffers: Vec<Vec<u8>> = packed.collect();
        buffers.push(vec![0; linear.output.elems]);
        assert_eq!(interpret(&nested.kernel, &mut buffers).unwrap(), 0);
        buffers.pop().unwrap()
    }

    #[test]
    fn one_operation_gives_the_same_bytes() {
        let made = [
            (Between::Scales, 1),
            (Between::Factors, 1),
            (Between::Numbers, 1),
            (Between::Both, 2),
            (Between::Sides, 2),
            (Between::Bytes, 1),
            (Between::Square, 0),
        ];
        for (between, constants) in made {
            let def = definition(between);
            let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
            let constant: Vec<bool> = def.operands.iter().map(|o| !matches!(o.value, 0 | 5)).collect();
            let out = Layout::dense(&def.output.ty.shape);
            let mut linear = Linear::new(&def, &layouts, &constant, &out);
            let mut buffers: Vec<Vec<u8>> = def.operands.iter().map(|o| data(o.value, between)).collect();
            for (buffer, operand) in linear.buffers.iter_mut().zip(&def.operands) {
                let least = if operand.value == 3 { -9 } else { -6 };
                let float = operand.ty.dtype == DType::F32;
                buffer.magnitude = float.then_some(Magnitude { least, below: 3 });
            }
            let whole = linear.clone();
            let expected = run(&whole, &Schedule::naive(&whole), true, &buffers);
            let known = buffers.clone();
            let new = scaled(&mut linear, |i| constant[i as usize].then(|| known[i as usize].as_slice()));
            assert_eq!(new.len(), constants, "{between:?}: {linear}");
            assert_eq!(linear == whole, constants == 0, "{between:?}: {linear}");
            new.into_iter().for_each(|(operand, bytes)| buffers[operand as usize] = bytes);
            for (triple, cpu) in [("x86_64", "x86-64-v3"), ("x86_64", "x86-64"), ("aarch64", "cortex-a53")] {
                let target = resolve(triple, cpu).unwrap();
                let got = run(&linear, &choose(&linear, &target), target.fma, &buffers);
                assert_eq!(got, expected, "{between:?} {cpu}: {linear}");
            }
        }
    }

    /// What else reads the number that is rounded gets it as the definition says.
    #[test]
    fn what_is_read_elsewhere_stays() {
        let y = TensorType::new(DType::F32, [BYTES]);
        let mut b = DefBuilder::new(&y.shape);
        let at = vec![b.var(0)];
        let x = b.load(0, &TensorType::new(DType::I8, [BYTES]), at);
        let x = b.cast(DType::F32, x);
        let [from, to] = [1, 2].map(|i| b.load(i, &TensorType::new(DType::F32, []), vec![]));
        let value = b.op(Op::Mul, &[x, from]);
        let value = b.op(Op::Div, &[value, to]);
        let byte = quantized(&mut b, value, 0.0);
        let byte = b.cast(DType::F32, byte);
        let off = b.op(Op::Sub, &[byte, value]);
        let def = b.finish("off", 3, &y, off);
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let mut linear = Linear::new(&def, &layouts, &[false, true, true], &Layout::dense(&y.shape));
        linear.buffers.iter_mut().for_each(|b| b.magnitude = Some(Magnitude { least: -5, below: 2 }));
        let known: Vec<Vec<u8>> = (0..3).map(|i| data(i, Between::Scales)).collect();
        assert_eq!(scaled(&mut linear, |i| (i > 0).then(|| known[i as usize].as_slice())), []);
    }
}
