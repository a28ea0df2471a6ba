//! Random operators: RandomUniform, RandomNormal, their Like forms, Bernoulli, Multinomial, and
//! Dropout in training mode.
//!
//! What is drawn depends on the seed alone, so it is drawn at compile time and is a constant of the
//! object: every run gives the same values. The generator is the one of ONNX's reference
//! implementation (numpy's `RandomState`): the 32-bit Mersenne Twister of Matsumoto and Nishimura,
//! seeded with the attribute `seed` as an integer; doubles of 53 bits from two numbers each; normal
//! numbers by Marsaglia's polar method. Without the attribute nobody can know the order, and each number is
//! made of the node's name and its place alone (SplitMix64 of Steele, Lea and Flood): a smaller tensor is then a
//! corner of a larger one, so that sizes may be left to run time.

use super::emit::{float_tensor, require};
use super::{Ctx, ExpandFn, InferFn, Lower, NodeBuilder, Operator};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId, check_size};
use crate::scalar::{Op, Scalar, eval};

const NOTE: &str =
    "drawn at compile time from the seed; without one from the node's name and the place, for any size";

const fn row(name: &'static str, versions: &'static [i64], infer: InferFn, expand: ExpandFn) -> Operator {
    Operator { domain: "", name, versions, infer, lower: Lower::Expand(expand), note: NOTE }
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("RandomUniform", &[1, 22], infer_shaped, uniform),
    row("RandomUniformLike", &[1, 22], infer_like, uniform),
    row("RandomNormal", &[1, 22], infer_shaped, normal),
    row("RandomNormalLike", &[1, 22], infer_like, normal),
    row("Bernoulli", &[15, 22], infer_bernoulli, bernoulli),
    row("Multinomial", &[7, 22], infer_multinomial, multinomial),
];

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// Where words come from.
enum Words {
    /// The Mersenne Twister: one after the other.
    Twister { state: Vec<u32>, at: usize },
    /// The key of a node, and the state for one place.
    Places { key: u64, state: u64 },
}

/// Words, and the second number of a pair of normal ones.
struct Generator {
    words: Words,
    spare: Option<f64>,
}

/// The step of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bits of a number, mixed.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn twist(state: &mut [u32]) {
    for i in 0..WORDS {
        let bits = (state[i] & 0x8000_0000) | (state[(i + 1) % WORDS] & 0x7fff_ffff);
        let odd = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
        state[i] = state[(i + MIDDLE) % WORDS] ^ (bits >> 1) ^ odd;
    }
}

impl Generator {
    fn new(seed: u32) -> Generator {
        let mut state = vec![seed];
        for i in 1..WORDS as u32 {
            let last = state[i as usize - 1];
            state.push(1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i));
        }
        Generator { words: Words::Twister { state, at: WORDS }, spare: None }
    }

    /// Of a node, whose seed is a float or (Dropout) an integer.
    fn of(ctx: &Ctx) -> Generator {
        match ctx.attrs().0.get("seed") {
            Some(Attr::Float(seed)) if seed.is_finite() => Generator::new(*seed as i64 as u32),
            Some(Attr::Int(seed)) => Generator::new(*seed as u32),
            _ => {
                let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                let key = ctx.node.name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
                Generator { words: Words::Places { key, state: key }, spare: None }
            }
        }
    }

    /// What follows is drawn for this place of a tensor.
    fn begin(&mut self, place: &[usize]) {
        if let Words::Places { key, state } = &mut self.words {
            *state = place.iter().fold(*key, |key, &i| mixed(key ^ (i as u64 + 1).wrapping_mul(STEP)));
            self.spare = None;
        }
    }

    fn word(&mut self) -> u32 {
        match &mut self.words {
            Words::Twister { state, at } => {
                if *at == WORDS {
                    twist(state);
                    *at = 0;
                }
                let mut word = state[*at];
                *at += 1;
                word ^= word >> 11;
                word ^= (word << 7) & 0x9d2c_5680;
                word ^= (word << 15) & 0xefc6_0000;
                word ^ (word >> 18)
            }
            Words::Places { state, .. } => {
                *state = state.wrapping_add(STEP);
                (mixed(*state) >> 32) as u32
            }
        }
    }

    /// From 0 up to but not including 1.
    fn uniform(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Of mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                // Not the host's logarithm: hosts differ in its last bit.
                let log = eval(Op::Log, &[Scalar::from_f64(DType::F64, square)]).to_f64();
                let factor = (-2.0 * log / square).sqrt();
                self.spare = Some(factor * x);
                return factor * y;
            }
        }
    }
}

/// Uniform numbers from 0 to 1, as Dropout compares them with its ratio.
pub fn drawn(ctx: &Ctx, shape: &[usize], dtype: DType) -> Result<Tensor> {
    filled(ctx, &TensorType::new(dtype, shape), Generator::uniform)
}

/// A tensor of what `number` draws for each place.
fn filled(ctx: &Ctx, ty: &TensorType, mut number: impl FnMut(&mut Generator) -> f64) -> Result<Tensor> {
    check_size(ty)?;
    let (mut generator, mut place) = (Generator::of(ctx), vec![0usize; ty.rank()]);
    let mut values = Vec::with_capacity(ty.elems());
    for _ in 0..ty.elems() {
        generator.begin(&place);
        values.push(number(&mut generator));
        for (at, &size) in place.iter_mut().zip(&ty.shape).rev() {
            *at = (*at + 1) % size;
            if *at > 0 {
                break;
            }
        }
    }
    Ok(float_tensor(ty.dtype, &ty.shape, &values))
}

/// The element type that attribute `dtype` names.
fn stated(ctx: &Ctx, default: DType) -> Result<DType> {
    let Some(&number) = ctx.attrs().get_int("dtype")? else { return Ok(default) };
    DType::from_onnx(number).ok_or_else(|| Error::model(format!("element type {number} is not supported")))
}

fn float_type(dtype: DType) -> Result<DType> {
    require(dtype.is_float(), || format!("{dtype} is not a type of floats"))?;
    Ok(dtype)
}

fn infer_shaped(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let dims = ctx.attrs().get_ints("shape")?;
    let dims = dims.ok_or_else(|| Error::model("is missing").at("attribute shape"))?;
    let shape: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or_else(|| Error::model(format!("the shape {dims:?} holds a negative number")))?;
    Ok(vec![TensorType::new(float_type(stated(ctx, DType::F32)?)?, shape)])
}

fn infer_like(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    Ok(vec![TensorType::new(float_type(stated(ctx, x.dtype)?)?, x.shape.clone())])
}

fn uniform(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (low, high) = (f64::from(ctx.attrs().float("low", 0.0)?), f64::from(ctx.attrs().float("high", 1.0)?));
    let tensor = filled(ctx, ctx.out(0)?, |generator| generator.uniform() * (high - low) + low)?;
    Ok(vec![b.constant(tensor)])
}

fn normal(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let (mean, scale) = (ctx.attrs().float("mean", 0.0)?, ctx.attrs().float("scale", 1.0)?);
    let number = |generator: &mut Generator| generator.normal() * f64::from(scale) + f64::from(mean);
    Ok(vec![b.constant(filled(ctx, ctx.out(0)?, number)?)])
}

fn infer_bernoulli(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    float_type(x.dtype)?;
    Ok(vec![TensorType::new(stated(ctx, x.dtype)?, x.shape.clone())])
}

/// As ONNX's function body: 1 where the probability is above a uniform number.
fn bernoulli(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let x = ctx.node.inputs[0].ok_or_else(|| Error::model("input 0 is missing"))?;
    let numbers = drawn(ctx, ctx.shape(0)?, ctx.dtype(0)?)?;
    let numbers = b.constant(numbers);
    let above = b.binary("Greater", x, numbers)?;
    let to = Attrs::default().with("to", Attr::Int(ctx.out(0)?.dtype as i64));
    Ok(vec![b.one("Cast", &[above], to)?])
}

fn infer_multinomial(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require(x.dtype.is_float() && x.rank() == 2 && x.shape[1] > 0, || {
        format!("it is not defined for {x}: rows of log-probabilities are")
    })?;
    let samples = ctx.attrs().int("sample_size", 1)?;
    let samples = usize::try_from(samples).map_err(|_| Error::model(format!("sample_size is {samples}")))?;
    let dtype = stated(ctx, DType::I32)?;
    require(matches!(dtype, DType::I32 | DType::I64), || format!("classes cannot be numbered by {dtype}"))?;
    Ok(vec![TensorType::new(dtype, [x.shape[0], samples])])
}

/// The number of classes whose running sum of probabilities is at most a uniform number.
fn multinomial(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let x = ctx.node.inputs[0].ok_or_else(|| Error::model("input 0 is missing"))?;
    let (out, classes) = (ctx.out(0)?.clone(), ctx.shape(0)?[1]);
    let to = |dtype: DType| Attrs::default().with("to", Attr::Int(dtype as i64));
    let x = b.one("Cast", &[x], to(DType::F32))?;
    let weights = b.one("Softmax", &[x], Attrs::default().with("axis", Attr::Int(1)))?;
    let one = b.constant(Tensor::scalar(1i64));
    let sums = b.binary("CumSum", weights, one)?;
    let [middle, last] = [1i64, 2].map(|axis| b.constant(Tensor::new([1], &[axis])));
    let sums = b.binary("Unsqueeze", sums, middle)?;
    let numbers = drawn(ctx, &[out.shape[0], out.shape[1], 1], DType::F32)?;
    let numbers = b.constant(numbers);
    // [rows, 1, classes] against [rows, samples, 1].
    let passed = b.binary("LessOrEqual", sums, numbers)?;
    let passed = b.one("Cast", &[passed], to(out.dtype))?;
    let class = b.one("ReduceSum", &[passed, last], Attrs::default().with("keepdims", Attr::Int(0)))?;
    // The sum of all may stay below one by rounding.
    let largest = Scalar::from_i64(out.dtype, classes as i64 - 1).bits.to_le_bytes();
    let ty = TensorType::new(out.dtype, []);
    let largest = Tensor { data: largest[..out.dtype.size()].to_vec().into(), ty };
    let largest = b.constant(largest);
    Ok(vec![b.binary("Min", class, largest)?])
}

#[cfg(test)]
mod tests {
    use super::super::older::fold;
    use super::Generator;
    use crate::base::Tensor;
    use crate::graph::Attr;

    /// What numpy gives: `np.random.RandomState(0).rand(3)`, `.randn(3)`, and of seed 42.
    #[test]
    fn numbers_are_those_of_numpy() {
        let mut zero = Generator::new(0);
        let found = [0; 3].map(|_| zero.uniform());
        assert_eq!(found, [0.5488135039273248, 0.7151893663724195, 0.6027633760716439]);
        let mut normal = Generator::new(0);
        let found = [0; 3].map(|_| normal.normal());
        let wanted = [1.764052345967664, 0.4001572083672233, 0.9787379841057392];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-15), "{found:?}");
        assert_eq!(Generator::new(42).uniform(), 0.3745401188473625);
    }

    #[test]
    fn choices_follow_their_probabilities() {
        let seed = ("seed", Attr::Float(3.0));
        let likely: Vec<f32> = (0..2000).map(|i| if i < 1000 { 0.25 } else { 0.75 }).collect();
        let x = Tensor::new([2000], &likely);
        let y = fold("Bernoulli", 15, std::slice::from_ref(&seed), &[x], 1).expect("choices");
        let y = y[0].to_vec::<f32>().expect("floats");
        let ones = [&y[..1000], &y[1000..]].map(|half| half.iter().sum::<f32>());
        assert!((200.0..300.0).contains(&ones[0]) && (700.0..800.0).contains(&ones[1]), "{ones:?}");
        let logs = Tensor::new([1, 3], &[0f32, f32::NEG_INFINITY, 3f32.ln()]);
        let attrs = [seed, ("sample_size", Attr::Int(1000))];
        let classes =
            fold("Multinomial", 7, &attrs, &[logs], 1).expect("classes")[0].to_i64s().expect("ints");
        let count = |c: i64| classes.iter().filter(|&&found| found == c).count();
        assert!((200..300).contains(&count(0)) && count(1) == 0, "{} {}", count(0), count(1));
    }

    /// The same name and seed are the same numbers; another name without a seed is not.
    #[test]
    fn numbers_are_repeated() {
        let shape = ("shape", Attr::Ints(vec![4]));
        let draw =
            |attrs: &[(&str, Attr)]| fold("RandomNormal", 1, attrs, &[], 1).expect("numbers")[0].clone();
        assert_eq!(draw(std::slice::from_ref(&shape)).data, draw(std::slice::from_ref(&shape)).data);
        let seeded = draw(&[shape.clone(), ("seed", Attr::Float(1.0))]);
        assert_ne!(seeded.data, draw(&[shape]).data);
    }

    /// Without a seed each number is that of its place, whatever the shape; they are spread as they should be.
    #[test]
    fn numbers_without_a_seed_are_those_of_their_places() {
        let draw = |op: &str, shape: [i64; 3]| {
            let shape = ("shape", Attr::Ints(shape.to_vec()));
            fold(op, 1, &[shape], &[], 1).expect("numbers")[0].to_vec::<f32>().expect("floats")
        };
        for (op, mean, spread) in [("RandomNormal", 0.0, 1.0), ("RandomUniform", 0.5, 1.0 / 12.0)] {
            let (small, large) = (draw(op, [2, 3, 4]), draw(op, [3, 40, 50]));
            let corner = (0..24).map(|i| large[(i / 12 * 40 + i / 4 % 3) * 50 + i % 4]);
            assert_eq!(small, corner.collect::<Vec<_>>(), "{op}");
            let average = |f: &dyn Fn(f32) -> f32| large.iter().map(|&x| f(x)).sum::<f32>() / 6000.0;
            let middle = average(&|x| x);
            assert!((middle - mean).abs() < 0.05, "{op}: {middle}");
            let square = average(&|x| (x - middle) * (x - middle));
            assert!((square / spread - 1.0).abs() < 0.1, "{op}: {square}");
        }
    }
}
