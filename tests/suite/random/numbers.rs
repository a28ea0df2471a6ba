//! Random integers made of a size that is left to run time, as elements and as lengths: at every size they are what they
//! are by hand, or the model is refused.
//!
//! `LMC_RANDOM_NUMBERS=n` says how many, `LMC_RANDOM_FIRST=n` from which seed on.

use super::draw::Random;
use super::setting;
use crate::sizes::{bounded, decode, floats};
use crate::support::onnx::{body, model, node, value};
use lmc::base::Tensor;
use lmc::build::{Build, Silent};
use lmc::error::Kind;
use lmc::run::executor::Executor;
use lmc::target::{Target, resolve};
use tract_onnx::pb;

/// No list is longer.
const LONGEST: i64 = 4000;

/// An integer made of a size.
enum Number {
    Size,
    By(&'static str, Box<Number>, i64),
    Sum(Box<Number>),
    /// Where the size is more than a number the first, else the second; as an If, or as a Where.
    Either(bool, i64, Box<[Number; 2]>),
}

impl Number {
    fn random(random: &mut Random, depth: usize) -> Number {
        if depth == 0 {
            return Number::Size;
        }
        let first = Number::random(random, depth - 1);
        let few = random.pick(&[1, 2, 3, 4, 5, 8, 10, 16, 50, 64, 100, 128, 160, 256, 320, 512]);
        let by = if random.chance(30) { random.between(1, 600) } else { few };
        match random.below(11) {
            0 => Number::Sum(first.into()),
            1 => {
                let second = Number::random(random, 1);
                Number::Either(random.chance(50), by, [first, second].into())
            }
            2 => Number::By("Mul", first.into(), random.between(2, 4)),
            choice => {
                let ops = ["Add", "Sub", "Div", "Div", "Div", "Mod", "Max", "Min"];
                Number::By(ops[choice - 3], first.into(), by)
            }
        }
    }

    fn at(&self, size: i64) -> i64 {
        match self {
            Number::Size => size,
            Number::Sum(a) => a.at(size) + size,
            Number::Either(_, limit, parts) => parts[usize::from(size <= *limit)].at(size),
            Number::By(op, a, by) => {
                let a = a.at(size);
                match *op {
                    "Add" => a + by,
                    "Sub" => a - by,
                    "Mul" => a * by,
                    "Div" => a / by,
                    "Mod" => a.rem_euclid(*by),
                    "Max" => a.max(*by),
                    _ => a.min(*by),
                }
            }
        }
    }

    /// The nodes that compute it; gives its name.
    fn write(&self, graph: &mut Written) -> String {
        match self {
            Number::Size => "n".to_string(),
            Number::Sum(a) => {
                let a = a.write(graph);
                graph.node("Add", &[&a, "n"])
            }
            Number::By(op, a, by) => {
                let (a, by) = (a.write(graph), graph.constant(*by));
                graph.node(op, &[&a, &by])
            }
            Number::Either(is_if, limit, parts) => {
                let [a, b] = [parts[0].write(graph), parts[1].write(graph)];
                let limit = graph.constant(*limit);
                let more = graph.node("Greater", &["n", &limit]);
                if !is_if {
                    return graph.node("Where", &[&more, &a, &b]);
                }
                let branch = |from: &str, to: &str| pb::GraphProto {
                    name: to.to_string(),
                    node: vec![node("Identity", &[from], to)],
                    output: vec![value(to, 7, &[])],
                    ..Default::default()
                };
                let count = graph.nodes.len();
                let (then, otherwise) = (branch(&a, &format!("t{count}")), branch(&b, &format!("e{count}")));
                let to = graph.node("If", &[&more]);
                let attributes = [body("then_branch", then), body("else_branch", otherwise)];
                graph.nodes.last_mut().expect("an If").attribute.extend(attributes);
                to
            }
        }
    }
}

#[derive(Default)]
struct Written {
    nodes: Vec<pb::NodeProto>,
    constants: Vec<(String, Tensor)>,
}

impl Written {
    fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        let name = format!("v{}", self.nodes.len());
        self.nodes.push(node(op, inputs, &name));
        name
    }

    fn constant(&mut self, number: i64) -> String {
        let name = format!("c{}", self.constants.len());
        self.constants.push((name.clone(), Tensor::scalar(number)));
        name
    }
}

/// `y = [number]`, or as many ones as it says.
fn written(number: &Number, as_length: bool) -> pb::ModelProto {
    let mut graph = Written::default();
    graph.constants.push(("first".into(), Tensor::new([1], &[0i64])));
    graph.nodes.extend([node("Shape", &["x"], "shape"), node("Squeeze", &["shape", "first"], "n")]);
    let name = number.write(&mut graph);
    let whole = if as_length {
        let (least, most) = (graph.constant(0), graph.constant(LONGEST));
        let length = graph.node("Clip", &[&name, &least, &most]);
        let list = graph.node("Unsqueeze", &[&length, "first"]);
        graph.constants.push(("unit".into(), Tensor::new([1], &[1i64])));
        graph.node("Expand", &["unit", &list])
    } else {
        graph.node("Unsqueeze", &[&name, "first"])
    };
    graph.nodes.push(node("Identity", &[&whole], "y"));
    let constants: Vec<(&str, Tensor)> =
        graph.constants.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let mut proto = model(graph.nodes, &[-1], &[-1], &constants);
    proto.graph.as_mut().expect("a graph").output = vec![value("y", 7, &[if as_length { -1 } else { 1 }])];
    proto
}

/// Compares at sizes up to the bound; whether the model was compiled.
fn agrees(seed: u64, target: &Target, most: usize) -> bool {
    let mut random = Random(seed);
    let depth = random.between(1, 4) as usize;
    let (number, as_length) = (Number::random(&mut random, depth), random.chance(50));
    let bound = random.pick(&[5, 12, 40, 100, 300, 1000, 3000]);
    let build = Build::new("m.onnx").bindings(bounded(&[("length", bound)]));
    let built = match build.build_model(&decode(&written(&number, as_length)), target.clone(), "m", &Silent) {
        Ok(built) => built,
        Err(e) if e.kind == Kind::Model => return false,
        Err(e) => panic!("seed {seed}: {e}"),
    };
    let executor = Executor::new(&built.program, &built.object.bytes, target, None);
    let mut executor = executor.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let least = built.program.symbols[0].least;
    for size in (least..=bound).rev().step_by(bound.div_ceil(most)) {
        let want = number.at(size as i64);
        let got =
            executor.run(&[floats(&[size], 1)]).unwrap_or_else(|e| panic!("seed {seed} at {size}: {e}"));
        let want = match as_length {
            true => {
                Tensor::new([want.clamp(0, LONGEST) as usize], &vec![1i64; want.clamp(0, LONGEST) as usize])
            }
            false => Tensor::new([1], &[want]),
        };
        assert_eq!(got[0], want, "seed {seed}, {size} of {bound}");
    }
    true
}

#[test]
fn random_numbers_are_what_they_are_at_every_size() {
    let (first, count) = (setting("LMC_RANDOM_FIRST", 1), setting("LMC_RANDOM_NUMBERS", 150));
    let native = resolve("native", "native").expect("this machine");
    let compiled = (first..first + count).filter(|&seed| agrees(seed, &native, usize::MAX)).count() as u64;
    println!("{compiled} of {count} compiled");
    assert!(compiled * 2 > count, "{compiled} of {count}");
    let other = resolve("aarch64", "generic").expect("known");
    assert!((first..first + 8).filter(|&seed| agrees(seed, &other, 4)).count() > 0);
}
