//! Boxes of an image that data give, resized to one size: Resize with a roi computed at run time.

use crate::found::{Case, gives, list};
use crate::sizes::floats;
use crate::support::onnx::{float, int, node, text};
use lmc::base::Tensor;
use tract_onnx::pb::NodeProto;

const ROWS: usize = 6;
const COLUMNS: usize = 8;

/// The first row of `x` says where the box begins and ends, the others are the image; `y` is the box.
fn cropped(mode: &str) -> Vec<NodeProto> {
    let mut nodes = vec![
        node("Slice", &["x", "0", "1", "0"], "head"),
        node("Reshape", &["head", "-1"], "corners"),
        node("Slice", &["corners", "0", "2"], "start"),
        node("Slice", &["corners", "2", "4"], "end"),
        node("Concat", &["zeros", "start"], "starts"),
        node("Concat", &["ones", "end"], "ends"),
        node("Concat", &["starts", "ends"], "roi"),
        node("Slice", &["x", "1", "far", "0"], "rows"),
        node("Reshape", &["rows", "image_shape"], "image"),
        node("Resize", &["image", "roi", "", "sizes"], "box"),
        node("Squeeze", &["box", "first"], "y"),
    ];
    for concat in &mut nodes[4..7] {
        concat.attribute.push(int("axis", 0));
    }
    nodes[9].attribute.extend([
        text("mode", mode),
        text("coordinate_transformation_mode", "tf_crop_and_resize"),
        float("extrapolation_value", 9.0),
    ]);
    nodes
}

/// ONNX's definition, one output after the other.
fn expected(x: &[f32], nearest: bool, [rows, columns]: [usize; 2]) -> Vec<f32> {
    let (corners, image) = x.split_at(COLUMNS);
    let place = |o: usize, d: usize, input: usize, output: usize| {
        let (start, end, last) = (corners[d], corners[d + 2], input as f32 - 1.0);
        match output {
            1 => (start + end) * last / 2.0,
            _ => start * last + o as f32 * (end - start) * last / (output as f32 - 1.0),
        }
    };
    let at = |row: f32, column: f32| {
        let clamped = |v: f32, n: usize| v.clamp(0.0, n as f32 - 1.0) as usize;
        image[clamped(row, ROWS) * COLUMNS + clamped(column, COLUMNS)]
    };
    let mut all = Vec::new();
    for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
        let (row, column) = (place(r, 0, ROWS, rows), place(c, 1, COLUMNS, columns));
        let inside = |v: f32, n: usize| (0.0..=n as f32 - 1.0).contains(&v);
        let round = |v: f32| (v - 0.5).ceil();
        let (top, left) = (row.floor(), column.floor());
        let (down, right) = (row - top, column - left);
        let along = |row: f32| at(row, left) * (1.0 - right) + at(row, left + 1.0) * right;
        all.push(match () {
            _ if !inside(row, ROWS) || !inside(column, COLUMNS) => 9.0,
            _ if nearest => at(round(row), round(column)),
            _ => along(top) * (1.0 - down) + along(top + 1.0) * down,
        });
    }
    all
}

fn check(mode: &str, size: [usize; 2]) {
    let [rows, columns] = size.map(|n| n as i64);
    let constants = [
        ("0", list(&[0])),
        ("1", list(&[1])),
        ("2", list(&[2])),
        ("4", list(&[4])),
        ("-1", list(&[-1])),
        ("far", list(&[100])),
        ("first", list(&[0, 1])),
        ("zeros", Tensor::new([2], &[0f32; 2])),
        ("ones", Tensor::new([2], &[1f32; 2])),
        ("image_shape", list(&[1, 1, ROWS as i64, COLUMNS as i64])),
        ("sizes", list(&[1, 1, rows, columns])),
    ];
    let case = |corners: [f32; 4]| -> Case {
        let tensor = floats(&[(ROWS + 1) * COLUMNS], 11);
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let mut x: Vec<f32> = tensor.data.chunks_exact(4).map(number).collect();
        x[..4].copy_from_slice(&corners);
        let want = expected(&x, mode == "nearest", size);
        (x, Some((size, want)))
    };
    // The whole image, a part, a part turned over, one that reaches out, one of a point.
    let cases = [
        case([0.0, 0.0, 1.0, 1.0]),
        case([0.1, 0.25, 0.7, 0.5]),
        case([0.9, 0.8, 0.2, 0.1]),
        case([-0.3, 0.4, 0.6, 1.35]),
        case([0.33, 0.61, 0.33, 0.61]),
    ];
    gives(cropped(mode), [ROWS + 1, COLUMNS], &constants, &cases);
}

#[test]
fn boxes_that_data_give() {
    check("linear", [4, 5]);
    check("nearest", [4, 5]);
    check("linear", [1, 3]);
    // No axis changes its length: only data say that there is something to do.
    check("linear", [ROWS, COLUMNS]);
}
