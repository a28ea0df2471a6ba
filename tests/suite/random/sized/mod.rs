//! Random graphs whose sizes are left to run time: one object gives at each size what the naive loops of
//! the graph bound to that size give.
//!
//! `LMC_RANDOM_SIZED=n`, `LMC_RANDOM_SIZED_NETS=n` and `LMC_RANDOM_BATCHES=n` say how many, `LMC_RANDOM_FIRST=n` from
//! which seed on. What is refused or differs is in `target/tmp/random_sized` and folders named alike.

mod batches;
mod nets;
mod steps;

use super::draw::Random;
use super::{difference, setting};
use crate::sizes::{bounded, decode, floats, try_naive};
use crate::support::onnx::{node, value};
use crate::support::{scratch, write};
use lmc::base::Tensor;
use lmc::build::{Build, Silent};
use lmc::error::{Error, Kind};
use lmc::import::{Bindings, Model};
use lmc::plan::Program;
use lmc::run::executor::Executor;
use lmc::target::resolve;
use prost::Message;
use tract_onnx::pb;

/// A size: a number, or one that is known at run time. Of those, equal ones have equal numbers.
#[derive(Clone, Copy, PartialEq)]
enum Dim {
    Fixed(usize),
    Free(usize),
}

use Dim::{Fixed, Free};

const LENGTH: Dim = Free(0);
const BATCH: Dim = Free(1);

#[derive(Clone)]
struct Value {
    name: String,
    dims: Vec<Dim>,
}

/// A graph that grows.
struct Sized {
    random: Random,
    nodes: Vec<pb::NodeProto>,
    constants: Vec<(String, Tensor)>,
    inputs: Vec<Value>,
    values: Vec<Value>,
    free: usize,
}

impl Sized {
    fn new(seed: u64) -> Sized {
        let random = Random(seed);
        let (nodes, constants, inputs, values) = Default::default();
        let mut made = Sized { random, nodes, constants, inputs, values, free: 2 };
        let with_batch = made.random.chance(30);
        for i in 0..made.random.between(1, 2) {
            let fixed = Fixed(made.random.pick(&[1, 3, 4, 6, 8, 16, 17]));
            let first = if with_batch { BATCH } else { Fixed(1) };
            let dims = match made.random.below(5) {
                0 => vec![LENGTH, fixed],
                1 => vec![first, fixed, LENGTH],
                2 => vec![first, fixed, LENGTH, Fixed(5)],
                _ => vec![first, LENGTH, fixed],
            };
            let input = Value { name: format!("x{i}"), dims };
            made.inputs.push(input.clone());
            made.values.push(input);
        }
        for _ in 0..made.random.between(2, 9) {
            let from = made.random.below(made.values.len());
            let from = if made.random.chance(70) { made.values.len() - 1 } else { from };
            let from = made.values[from].clone();
            let step = made.random.pick(steps::STEPS);
            if let Some(value) = step(&mut made, &from) {
                made.values.push(value);
            }
        }
        made
    }

    fn fresh(&mut self) -> Dim {
        self.free += 1;
        Free(self.free - 1)
    }

    fn name(&self) -> String {
        format!("v{}", self.nodes.len())
    }

    /// Adds a node; gives its output.
    fn add(&mut self, op: &str, inputs: &[&str], attrs: Vec<pb::AttributeProto>, dims: &[Dim]) -> Value {
        let name = self.name();
        let mut made = node(op, inputs, &name);
        made.name = name.clone();
        made.attribute = attrs;
        self.nodes.push(made);
        Value { name, dims: dims.to_vec() }
    }

    fn constant(&mut self, tensor: Tensor) -> String {
        let name = format!("c{}", self.constants.len());
        self.constants.push((name.clone(), tensor));
        name
    }

    fn numbers(&mut self, shape: &[usize]) -> String {
        let seed = self.constants.len() as u64 + 1;
        self.constant(floats(shape, seed))
    }

    fn list(&mut self, values: &[i64]) -> String {
        self.constant(Tensor::new([values.len()], values))
    }

    fn axis(&mut self, x: &Value) -> usize {
        self.random.below(x.dims.len())
    }

    /// What nothing reads is an output.
    fn model(&self) -> pb::ModelProto {
        let dim = |d: &Dim| match *d {
            Fixed(d) => d as i64,
            BATCH => -2,
            _ => -1,
        };
        let info = |v: &Value| value(&v.name, 1, &v.dims.iter().map(dim).collect::<Vec<_>>());
        let read = |v: &Value| self.nodes.iter().any(|n| n.input.contains(&v.name));
        let outputs =
            self.values.iter().filter(|v| !read(v) && !self.inputs.iter().any(|i| i.name == v.name));
        let unshaped = |v: &Value| {
            let mut info = info(v);
            if let Some(pb::type_proto::Value::TensorType(ty)) =
                info.r#type.as_mut().and_then(|t| t.value.as_mut())
            {
                ty.shape = None;
            }
            info
        };
        let constants = self.constants.iter().map(|(n, t)| lmc::import::to_tensor_proto(n, t));
        let graph = pb::GraphProto {
            name: "sized".into(),
            node: self.nodes.clone(),
            input: self.inputs.iter().map(info).collect(),
            output: outputs.map(unshaped).collect(),
            initializer: constants.collect(),
            ..Default::default()
        };
        let opset_import = vec![pb::OperatorSetIdProto { domain: String::new(), version: 13 }];
        pb::ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }
    }

    fn data(&self, length: usize, batch: usize) -> Vec<Tensor> {
        let size = |d: &Dim| match *d {
            Fixed(d) => d,
            BATCH => batch,
            _ => length,
        };
        let shape = |v: &Value| v.dims.iter().map(size).collect::<Vec<_>>();
        self.inputs.iter().map(|v| floats(&shape(v), (7 * length + batch) as u64)).collect()
    }

    fn has_batch(&self) -> bool {
        self.inputs.iter().any(|v| v.dims.contains(&BATCH))
    }
}

/// What one graph gives: results at several sizes, or a refusal.
fn compare(seed: u64, made: &Sized, model: &Model) -> Result<usize, Error> {
    let bound = 5 + (seed % 29) as usize;
    let mut bounds = vec![("length", bound)];
    bounds.extend(made.has_batch().then_some(("batch", 3)));
    let sizes = [(bound, 3), (bound - 1, 1), (1, 3), (2, 2), (3, 1), (bound / 2 + 1, 2)];
    agree_at(seed, made, model, (bounded(&bounds), &sizes), &mut |_| {})
}

/// The results at these lengths and batches, if they agree.
fn agree_at(
    seed: u64,
    made: &Sized,
    model: &Model,
    (bindings, sizes): (Bindings, &[(usize, usize)]),
    see: &mut dyn FnMut(&Program),
) -> Result<usize, Error> {
    let data = |&(length, batch): &(usize, usize)| {
        (length, made.data(length, if made.has_batch() { batch } else { 1 }))
    };
    let cases: Vec<_> = sizes.iter().map(data).collect();
    agree_with(seed, model, Build::new("m.onnx").bindings(bindings), &cases, see)
}

/// How many results for these inputs agree, each with its smallest size.
fn agree_with(
    seed: u64,
    model: &Model,
    build: Build,
    cases: &[(usize, Vec<Tensor>)],
    see: &mut dyn FnMut(&Program),
) -> Result<usize, Error> {
    const PLACES: [(&str, &str); 5] = [
        ("x86_64", "generic"),
        ("native", "native"),
        ("x86_64", "generic"),
        ("native", "native"),
        ("aarch64", "generic"),
    ];
    let (arch, cpu) = PLACES[seed as usize % PLACES.len()];
    let target = resolve(arch, cpu).expect("known");
    let built = build.build_model(model, target.clone(), "m", &Silent)?;
    see(&built.program);
    let mut executor = Executor::new(&built.program, &built.object.bytes, &target, None)?;
    let mut compared = 0;
    for (smallest, inputs) in cases {
        // Where windows are longer than what they move over, there is no result.
        let Ok(want) = try_naive(model, inputs) else { continue };
        if want.iter().any(|t| t.ty.elems() == 0) {
            // A zero in a computed shape means another one's dimension.
            continue;
        }
        let got = match executor.run(inputs) {
            // Such sizes, and those that would be computed in another way, are refused.
            Err(e) if *smallest < 4 && e.kind == Kind::Model => continue,
            got => got?,
        };
        let place = || {
            let types: Vec<String> = inputs.iter().map(|t| t.ty.to_string()).collect();
            format!("{}, {arch} {cpu}", types.join(" "))
        };
        if let Some(why) = difference(&got, &want) {
            return Err(Error::bug(format!("{}: {why}", place())));
        }
        compared += 1;
    }
    Ok(compared)
}

#[test]
fn random_graphs_of_any_size_agree_with_each_size() {
    let (folder, first) = (scratch("random_sized"), setting("LMC_RANDOM_FIRST", 1));
    let (mut compared, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    for seed in first..first + setting("LMC_RANDOM_SIZED", 60) {
        let made = Sized::new(seed);
        let proto = made.model();
        if proto.graph.as_ref().is_none_or(|g| g.output.is_empty()) {
            continue;
        }
        let operators: Vec<&str> = made.nodes.iter().map(|n| n.op_type.as_str()).collect();
        let what = |e: Error| {
            let name = format!("{seed}.onnx");
            write(&folder, &name, proto.encode_to_vec());
            format!("seed {seed}, {operators:?}: {e}")
        };
        match compare(seed, &made, &decode(&proto)) {
            Ok(results) => compared += results,
            Err(e) if e.kind == Kind::Model => refused.push(what(e)),
            Err(e) => wrong.push(what(e)),
        }
    }
    println!("{compared} results compared, {} graphs refused", refused.len());
    refused.iter().for_each(|r| println!("{r}"));
    assert!(wrong.is_empty() && compared > 4 * refused.len(), "{}", wrong.join("\n"));
}
