//! Floats of which nothing is known, quantized: as divided, rounded and limited one after the other.

use super::*;
use crate::nest::requantize::tests::quantized;
use crate::schedule::linear::Magnitude;
use crate::target::resolve;
use crate::tile::random::Rng;

const CHANNELS: usize = 3;

/// `i8(clamp(round(x / scale) - 3))`, with a scale for each of the channels, over the rows of `x`.
fn quantization(rows: usize) -> Definition {
    let (x, scale) = (f32s(&[CHANNELS, rows]), f32s(&[CHANNELS]));
    let y = TensorType::new(DType::I8, [CHANNELS, rows]);
    let mut b = DefBuilder::new(&y.shape);
    let at = vec![b.var(0), b.var(1)];
    let (data, channel) = (b.load(0, &x, at), vec![b.var(0)]);
    let by = b.load(1, &scale, channel);
    let quotient = b.op(Op::Div, &[data, by]);
    let nearest = b.op(Op::Round, &[quotient]);
    let narrow = quantized(&mut b, nearest, -3.0);
    b.finish("quantization", 2, &y, narrow)
}

/// Numbers around each half step of a scale, the largest and the least, and infinities.
fn numbers(scale: f32) -> Vec<f32> {
    let mut numbers = vec![0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-45];
    for half in -300..300 {
        let middle = (half as f32 + 0.5) * scale;
        let near = |by: i32| f32::from_bits(middle.to_bits().wrapping_add_signed(by));
        numbers.extend((-3..=3).map(near));
    }
    numbers
}

#[test]
fn floats_of_which_nothing_is_known_are_divided_by_a_product() {
    let mut rng = Rng(7);
    for (case, (triple, cpu)) in (0..8).flat_map(|case| TARGETS.map(|target| (case, target))) {
        let fraction = 1.0 + rng.below(1 << 23) as f32 / (1u32 << 23) as f32;
        let scales = [fraction, fraction / 2.0, 1.0].map(|s| s * 2f32.powi(case - 6));
        let data: Vec<Vec<f32>> = scales.iter().map(|&s| numbers(s)).collect();
        let def = quantization(data[0].len());
        let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
        let mut linear = Linear::new(&def, &layouts, &[false, true], &Layout::dense(&def.output.ty.shape));
        linear.buffers[1].magnitude = Some(Magnitude { least: case - 7, below: case - 5 });
        let schedule = choose(&linear, &resolve(triple, cpu).expect("a known processor"));
        let nested = nest(&linear, &schedule, true, 1).expect("the kernel is built");
        let bytes = |numbers: &[f32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        let mut buffers = vec![bytes(&data.concat()), bytes(&scales), vec![0; linear.output.elems]];
        interpret(&nested.kernel, &mut buffers).expect("the kernel runs");
        let exact =
            |x: f32, scale: f32| ((x / scale).round_ties_even() - 3.0).clamp(-128.0, 127.0) as i8 as u8;
        let expected = data.iter().zip(scales).flat_map(|(list, s)| list.iter().map(move |&x| exact(x, s)));
        assert!(buffers[2].iter().copied().eq(expected), "{cpu}: {scales:?}");
        let text = nested.kernel.to_string();
        assert!(text.contains("nearest_small") && !text.contains("round"), "{text}");
    }
}
