//! What is computed from bytes and constants, for each byte or each pair of bytes.
//!
//! Of a byte there are 256, so that what takes the place of a computation is tried with all of them at compile
//! time.

use crate::base::DType;
use crate::scalar::{Op, Scalar};
use crate::schedule::Linear;
use crate::schedule::linear::Node;

/// Bytes that there are.
pub const BYTES: usize = 256;

/// The bytes of a constant operand.
pub type Data<'a, 'b> = dyn Fn(u32) -> Option<&'a [u8]> + 'b;

/// An expression, taken apart down to bytes.
pub struct Cone {
    /// The bytes that are no constants.
    pub bytes: Vec<u32>,
    /// Its expressions, arguments first.
    pub nodes: Vec<u32>,
}

impl Cone {
    /// Takes apart an expression; `known` gives the numbers that are constants.
    pub fn of(linear: &Linear, value: u32, known: &dyn Fn(u32) -> Option<f64>) -> Cone {
        let byte =
            |id: u32| matches!(linear.types[id as usize], DType::I8 | DType::U8) && known(id).is_none();
        let mut inside = vec![false; value as usize + 1];
        inside[value as usize] = true;
        for id in (0..=value).rev().filter(|&id| !byte(id)) {
            if inside[id as usize] {
                linear.nodes[id as usize].args().iter().for_each(|&arg| inside[arg as usize] = true);
            }
        }
        let nodes: Vec<u32> = (0..=value).filter(|&id| inside[id as usize]).collect();
        Cone { bytes: nodes.iter().copied().filter(|&id| byte(id)).collect(), nodes }
    }

    /// Which expressions are computed from bytes.
    pub fn of_bytes(&self, linear: &Linear) -> Vec<bool> {
        let mut found = vec![false; linear.nodes.len()];
        for &id in &self.nodes {
            let mut args = linear.nodes[id as usize].args().into_iter();
            found[id as usize] = self.bytes.contains(&id) || args.any(|arg| found[arg as usize]);
        }
        found
    }

    /// The numbers of each expression, rounded as floats are or not at all.
    pub fn grids(
        &self,
        linear: &Linear,
        known: &dyn Fn(u32) -> Option<f64>,
        rounded: bool,
    ) -> Option<Vec<Option<Grid>>> {
        let mut grids: Vec<Option<Grid>> = vec![None; linear.nodes.len()];
        for &id in &self.nodes {
            let dtype = linear.types[id as usize];
            let round = |v: f64| if rounded && dtype == DType::F32 { f64::from(v as f32) } else { v };
            let of = |arg: &u32| grids[*arg as usize].as_ref();
            let grid = match &linear.nodes[id as usize] {
                _ if self.bytes.contains(&id) => Grid::bytes(least(linear, id), self.bytes[0] != id),
                _ if known(id).is_some() => Grid { numbers: vec![known(id)?], steps: [0, 0] },
                Node::Cast { to: DType::F32 | DType::I32, arg, .. }
                    if linear.types[*arg as usize].is_int() =>
                {
                    of(arg)?.clone()
                }
                Node::Op(op, args) => {
                    let computed = arithmetic(*op, dtype)?;
                    let args: Vec<&Grid> = args.iter().map(of).collect::<Option<_>>()?;
                    Grid::of(&args, &|numbers| round(computed(numbers)))
                }
                _ => return None,
            };
            grids[id as usize] = Some(grid);
        }
        Some(grids)
    }
}

/// A number for each pair of bytes, or for each of one byte, or one.
#[derive(Clone)]
pub struct Grid {
    /// In the order of the first byte.
    pub numbers: Vec<f64>,
    /// From a byte's number to the next one's.
    pub steps: [usize; 2],
}

impl Grid {
    fn bytes(least: f64, second: bool) -> Grid {
        let steps = if second { [0, 1] } else { [1, 0] };
        Grid { numbers: (0..BYTES).map(|i| least + i as f64).collect(), steps }
    }

    /// What is computed from numbers of several.
    pub fn of(args: &[&Grid], computed: &dyn Fn(&[f64]) -> f64) -> Grid {
        let follows = [0, 1].map(|d| args.iter().any(|g| g.steps[d] > 0));
        let [outer, inner] = follows.map(|f| if f { BYTES } else { 1 });
        let steps = [if follows[0] { inner } else { 0 }, usize::from(follows[1])];
        let mut each = vec![0.0; args.len()];
        let mut numbers = Vec::with_capacity(outer * inner);
        for i in 0..outer {
            for j in 0..inner {
                for (number, g) in each.iter_mut().zip(args) {
                    *number = g.numbers[i * g.steps[0] + j * g.steps[1]];
                }
                numbers.push(computed(&each));
            }
        }
        Grid { numbers, steps }
    }
}

/// The lowest byte of an expression's type.
pub fn least(linear: &Linear, id: u32) -> f64 {
    Scalar::lowest(linear.types[id as usize]).to_f64()
}

/// The number that a constant of one element is.
pub fn known(linear: &Linear, id: u32, data: &Data) -> Option<f64> {
    match &linear.nodes[id as usize] {
        Node::Const(s) => Some(s.to_f64()),
        Node::Load { operand, .. } if linear.buffers[*operand as usize].elems == 1 => {
            match (linear.types[id as usize], data(*operand)?) {
                (DType::F32, &[a, b, c, d]) => Some(f64::from(f32::from_le_bytes([a, b, c, d]))),
                (DType::I8, &[byte]) => Some(f64::from(byte as i8)),
                (DType::U8, &[byte]) => Some(f64::from(byte)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What an operation on numbers gives, before it is rounded to a type.
fn arithmetic(op: Op, dtype: DType) -> Option<fn(&[f64]) -> f64> {
    Some(match op {
        Op::Add => |n| n[0] + n[1],
        Op::Sub => |n| n[0] - n[1],
        Op::Mul => |n| n[0] * n[1],
        Op::Div if dtype == DType::F32 => |n| n[0] / n[1],
        Op::Lt => |n| f64::from(u8::from(n[0] < n[1])),
        Op::Select => |n| if n[0] != 0.0 { n[1] } else { n[2] },
        _ => return None,
    })
}

/// Whether nothing but these expressions uses one.
pub fn users_are(linear: &Linear, id: u32, nodes: &[u32]) -> bool {
    let mut users = (0u32..).zip(&linear.nodes).filter(|(_, n)| n.args().contains(&id));
    users.all(|(user, _)| nodes.contains(&user))
}

/// The operand of a load of constant floats that nothing else reads, at one place: other constants can take theirs.
pub fn replaceable(linear: &Linear, id: u32) -> Option<u32> {
    let Node::Load { operand, dynamic, guards, .. } = &linear.nodes[id as usize] else { return None };
    let reads = |n: &&Node| matches!(n, Node::Load { operand: o, .. } if o == operand);
    let plain = dynamic.is_empty() && guards.is_empty() && linear.types[id as usize] == DType::F32;
    (plain && linear.nodes.iter().filter(reads).count() == 1).then_some(*operand)
}
