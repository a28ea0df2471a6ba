//! Nets whose arithmetic is exact give the bits of the naive loops on every processor.
//!
//! `LMC_RANDOM_NETS=n` says how many, `LMC_RANDOM_FIRST=n` from which seed on; each is compiled for one processor
//! of either list, and those of a list take turns. `LMC_RANDOM_CPUS=a,b` are aarch64's instead.

use super::maker::Maker;
use super::structured::RECIPES;
use super::{Case, build, case, difference, setting};
use crate::sizes::naive;
use crate::support::{batch, scratch};
use lmc::base::Tensor;
use lmc::run::executor::{Executor, is_host};

const X86_64: &[&str] = &["x86-64-v3", "generic", "alderlake", "x86-64-v2", "native", "x86-64-v4"];
/// Those without instructions for bytes build their products from the most parts.
const AARCH64: &[&str] = &["cortex-a53", "neoverse-n1", "cortex-a53", "neoverse-v1", "cortex-a72"];

/// A net of a seed with the results of its naive loops; whether they are exact.
fn net(seed: u64) -> Option<(Maker, bool)> {
    let mut m = Maker::new(seed, 0);
    m.opset = m.random.pick(&[13, 14, 17, 21]);
    let quantized = m.random.chance(85);
    (RECIPES[usize::from(quantized)].1)(&mut m)?;
    Some((m, quantized))
}

/// What is not as it should be.
fn wrong(got: &[Tensor], want: &[Tensor], exact: bool) -> Option<String> {
    match difference(got, want) {
        None if exact && got != want => Some("the last bits".into()),
        other => other,
    }
}

#[test]
fn nets_are_the_same_on_every_processor() {
    let folder = scratch("random_nets");
    let cpus = std::env::var("LMC_RANDOM_CPUS").unwrap_or_else(|_| AARCH64.join(","));
    let cpus: Vec<&str> = cpus.split(',').collect();
    let first = setting("LMC_RANDOM_FIRST", 1);
    let (mut kept, mut objects, mut differ) = (Vec::new(), Vec::new(), Vec::new());
    for seed in first..first + setting("LMC_RANDOM_NETS", 160) {
        let Some((made, exact)) = net(seed) else { continue };
        let case = case(&folder, seed, made);
        let model = lmc::import::read(&case.model).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let want = naive(&model, &case.inputs);
        let cpu = X86_64[seed as usize % X86_64.len()];
        if let Some(built) = build(&case, "x86_64", cpu).filter(|b| is_host(&b.target)) {
            let executor = Executor::new(&built.program, &built.object.bytes, &built.target, None);
            let got = executor.and_then(|mut e| e.run(&case.inputs));
            let got = got.unwrap_or_else(|e| panic!("seed {seed}, {cpu}: {e}"));
            differ.extend(wrong(&got, &want, exact).map(|why| format!("seed {seed}, {cpu}: {why}")));
        }
        let cpu = cpus[seed as usize % cpus.len()];
        objects.extend(build(&case, "aarch64", cpu).map(|built| built.object.bytes));
        kept.push((case, want, exact, cpu));
    }
    let results = batch::run_on_aarch64("random_nets_batch", &models(&kept, &objects));
    for ((case, want, exact, cpu), result) in kept.iter().zip(results) {
        let place = format!("seed {}, {cpu}", case.seed);
        let bytes = result.unwrap_or_else(|e| panic!("{place}: {e}"));
        let typed = bytes.into_iter().zip(want).map(|(b, w)| Tensor::from_bytes(w.ty.clone(), b));
        let got: Vec<Tensor> = typed.map(|t| t.expect("as many bytes")).collect();
        differ.extend(wrong(&got, want, *exact).map(|why| format!("{place}: {why}")));
    }
    println!("{} nets", kept.len());
    assert!(differ.is_empty() && !kept.is_empty(), "{}", differ.join("\n"));
}

/// Nets for the batch.
fn models<'a>(kept: &'a [(Case, Vec<Tensor>, bool, &str)], objects: &'a [Vec<u8>]) -> Vec<batch::Model<'a>> {
    let each = kept.iter().zip(objects).map(|((case, want, ..), object)| batch::Model {
        object,
        inputs: case.inputs.iter().map(|t| &*t.data).collect(),
        outputs: want.iter().map(|t| t.ty.bytes()).collect(),
    });
    each.collect()
}
