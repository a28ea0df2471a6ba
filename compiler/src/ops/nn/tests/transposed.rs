//! Transposed convolutions against plain loops that spread each input over the outputs.

use super::{close, data, floats, run};
use crate::base::Tensor;
use crate::graph::Attr;

/// Outputs around the only input along a dimension meet a point of the window each, or reach beyond it.
#[test]
fn lone_inputs_are_spread() {
    for (size, kernel, pads, extra) in [
        ([1, 1], [4, 4], [0; 4], 0),
        ([1, 1], [7, 3], [2, 0, 1, 1], 0),
        ([1, 3], [4, 4], [1, 1, 1, 1], 0),
        ([1, 1], [3, 3], [0; 4], 1),
        ([2, 1], [2, 5], [0, 3, 0, 1], 0),
    ] {
        let (x, w) = (data(&[2, 3, size[0], size[1]], 5), data(&[3, 2, kernel[0], kernel[1]], 11));
        let bias = Tensor::new([2], &[0.5f32, -0.25]);
        let attrs = [
            ("strides", Attr::Ints(vec![2, 2])),
            ("pads", Attr::Ints(pads.to_vec())),
            ("output_padding", Attr::Ints(vec![extra; 2])),
        ];
        let inputs = [&x, &w, &bias].map(|t| Some(t.clone()));
        let got = run("", "ConvTranspose", &attrs, &inputs, 1);
        let extents: Vec<usize> = (0..2)
            .map(|d| 2 * (size[d] - 1) + kernel[d] + extra as usize - (pads[d] + pads[d + 2]) as usize)
            .collect();
        let area = extents[0] * extents[1];
        assert_eq!(got[0].ty.shape, [2, 2, extents[0], extents[1]]);
        let mut want: Vec<f32> = (0..4 * area).map(|i| [0.5, -0.25][i / area % 2]).collect();
        let (x, w, elems) = (floats(&x), floats(&w), size[0] * size[1]);
        for (i, &value) in x.iter().enumerate() {
            let (n, c, point) = (i / elems / 3, i / elems % 3, i % elems);
            for (j, &weight) in
                w[c * 2 * kernel[0] * kernel[1]..].iter().enumerate().take(2 * kernel[0] * kernel[1])
            {
                let (m, k) = (j / (kernel[0] * kernel[1]), j % (kernel[0] * kernel[1]));
                let row = (2 * (point / size[1]) + k / kernel[1]) as i64 - pads[0];
                let column = (2 * (point % size[1]) + k % kernel[1]) as i64 - pads[1];
                if (0..extents[0] as i64).contains(&row) && (0..extents[1] as i64).contains(&column) {
                    want[(n * 2 + m) * area + row as usize * extents[1] + column as usize] += value * weight;
                }
            }
        }
        close(&floats(&got[0]), &want);
    }
}
