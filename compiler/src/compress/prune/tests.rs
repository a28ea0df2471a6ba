//! Removed channels against channels that nothing reads.

use super::*;
use crate::compress::observe::{Observed, Sample, known};
use crate::compress::samples;
use crate::import::{self, Bindings};
use crate::run::compare::{Tolerance, compare};
use std::path::Path;

#[test]
fn thresholds_and_slices() {
    assert_eq!(threshold(vec![4.0, 1.0, 3.0, 2.0], 0.5), 2.0);
    assert_eq!(threshold(vec![4.0, 1.0], 0.1), 0.0);
    let t = Tensor::new([2, 3], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(sliced(&t, 1, &[0, 2]).to_vec::<f32>().unwrap(), [0.0, 2.0, 3.0, 5.0]);
    assert_eq!(sliced(&t, 0, &[1]).to_vec::<f32>().unwrap(), [3.0, 4.0, 5.0]);
    assert_eq!(error(&[3.0, 4.0], &[0.0, 4.0]), 0.6);
}

/// Whether an axis of a layer's weights is the one that its data lie along.
fn is_read(node: &Node, axis: usize) -> bool {
    match node.op() {
        "Conv" => axis == 1,
        "Gemm" => axis == usize::from(node.int("transB", 0) != 0),
        "ConvTranspose" | "MatMul" => axis == 0,
        _ => false,
    }
}

/// The model as it is, but for layers that multiply the removed channels of their data with zero: what
/// must come out of the pruned one.
fn masked(onnx: &Onnx, edits: &[Edit], kept: &Kept) -> Onnx {
    let mut made = onnx.clone();
    for edit in edits {
        let Edit::Slice { node, input: 1, axis, segments } = edit else { continue };
        if !is_read(&onnx.nodes[*node], *axis) {
            continue;
        }
        let (shape, mut weights) = onnx.floats(&onnx.nodes[*node].inputs[1]).expect("weights");
        let inner: usize = shape[axis + 1..].iter().product::<usize>().max(1);
        let stays: BTreeSet<usize> = kept.indices(segments).into_iter().collect();
        for (i, w) in weights.iter_mut().enumerate() {
            if !stays.contains(&(i / inner % shape[*axis])) {
                *w = 0.0;
            }
        }
        let name = made.add_constant("masked", &Tensor::new(shape, &weights));
        made.nodes[*node].set_input(1, name);
    }
    made
}

fn check(folder: &Path, sparsity: f64) -> Result<()> {
    let file = folder.join("model.onnx");
    let model = import::read(&file)?;
    let samples: Vec<Sample> =
        samples::read(&model, &Bindings::default(), &[folder.join("test_data_set_0")])?;
    let mut onnx = Onnx::read(&file)?;
    let known = known(&onnx, &samples[0])?;
    prepare::tidy(&mut onnx, &known);
    let Thinned { whole, thin: pruned, found } = thinned(onnx, sparsity, &known)?;
    let kept = found.sets.choose(sparsity);
    let wanted = Observed::new(&masked(&whole, &found.edits, &kept), &[])?.outputs(&samples[0])?;
    let outputs = Observed::new(&pruned, &[])?.outputs(&samples[0])?;
    for (want, is) in wanted.iter().zip(&outputs) {
        let off = compare(is, want, Tolerance { rtol: 1e-3, atol: 1e-3 });
        assert!(off.is_within() && off.cosine > 0.9999, "{}: {} {}", file.display(), off.max_abs, off.cosine);
    }
    Ok(())
}

/// On every bundled model of floats (and those of `LMC_MODELS`).
#[test]
fn removed_channels_are_those_that_nothing_reads() {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    let more = std::env::var_os("LMC_MODELS").map(std::path::PathBuf::from);
    let mut checked = 0;
    for folder in [Some(bundled), more].into_iter().flatten() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let file = entry.path().join("model.onnx");
            let quantized = entry.file_name().to_string_lossy().contains("int8");
            if file.is_file() && !quantized {
                check(&entry.path(), 0.4).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                checked += 1;
            }
        }
    }
    assert!(checked > 4, "{checked}");
}
